"""What diffusers' loaders do to ``LatentShiftPipeline``: on one frame, what they do to the stock pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from beside_stock import FAMILIES, FEW, frame_of, image_of, load_ours, load_stock, same
from latentshift import LatentShiftPipeline
from latentshift.cli.models import load_adapted
from latentshift.models.adapters.video_adapter import Lora, add_lora, load_adapter, save_delta, save_lora
from latentshift.video import read_metadata
from tiny_loras import STYLES, add_to_all, write_lora
from tiny_models import TEXT_WIDTH
from tiny_pipelines import picture, tiny_image_encoder, write_ip_adapter


@pytest.mark.parametrize(("family", "styles"), [("sd1", STYLES), ("sdxl", ("diffusers", "kohya", "kohya-original"))])
def test_a_lora_of_any_trainer_does_what_it_does_to_the_stock_pipeline(
    family: str, styles: tuple[str, ...], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(f"{family}_folder")
    ours, plain = load_ours(folder), load_stock(folder)
    without = image_of(plain)
    assert same(frame_of(ours), without)
    images = {}
    for text in {style not in ("peft", "bare") for style in styles}:
        stock = load_stock(folder)
        add_to_all(stock, text=text)
        images[text] = stock, image_of(stock)
    for style in styles:
        trained, image = images[style not in ("peft", "bare")]
        file = write_lora(trained, tmp_path / style, style)
        if style == "diffusers-alone":
            plain.load_lora_weights(file)
            image = image_of(plain)
            plain.unload_lora_weights()
        ours.load_lora_weights(file, adapter_name=style)
        assert same(frame_of(ours), image) and not same(image, without), style
        ours.unload_lora_weights()
    assert same(frame_of(ours), without)


@pytest.fixture(scope="module")
def lora(sd1_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    stock = load_stock(sd1_folder)
    add_to_all(stock)
    return write_lora(stock, tmp_path_factory.mktemp("lora"), "diffusers")


def test_several_loras_with_weights_are_what_they_are_in_the_stock_pipeline(
    sd1_folder: Path, lora: Path, tmp_path: Path
) -> None:
    trained = load_stock(sd1_folder)
    add_to_all(trained, seed=9)
    other = write_lora(trained, tmp_path, "kohya")
    ours, stock = load_ours(sd1_folder), load_stock(sd1_folder)
    weights = load_file(sd1_folder / "unet" / "diffusion_pytorch_model.safetensors")
    for each in (ours, stock):
        each.load_lora_weights(lora, adapter_name="one")
        each.load_lora_weights(other, adapter_name="other")
        each.set_adapters(["one", "other"], adapter_weights=[0.5, -1.5])
    weighed = image_of(stock)
    assert same(frame_of(ours), weighed)
    frame_of(ours, cross_attention_kwargs={"scale": 0.0})
    assert same(frame_of(ours), weighed)  # a scale of 0 is of one call alone
    stock.set_adapters(["one", "other"], adapter_weights=[0.25, -1.5])
    ours.fuse_lora(lora_scale=0.5, adapter_names=["one"])
    ours.fuse_lora(adapter_names=["other"])
    assert same(frame_of(ours), image_of(stock))  # each by its own scale
    ours.unfuse_lora()
    assert same(frame_of(ours), weighed)
    ours.set_adapters("one")
    stock.set_adapters("one")
    alone = image_of(stock)
    assert same(frame_of(ours), alone) and not same(alone, weighed)
    ours.fuse_lora(lora_scale=0.5)
    assert not same(frame_of(ours), alone)
    with pytest.raises(ValueError, match=r"LoRAs are merged \(one\): call unfuse_lora first"):
        ours.fuse_lora(lora_scale=0.5)
    ours.unfuse_lora()
    assert same(frame_of(ours), alone)  # a scale of merging does not outlast it
    ours.fuse_lora(["unet"], lora_scale=0.5)
    ours.unet.unfuse_lora()
    assert same(frame_of(ours), alone)  # nor if the part itself was told
    ours.fuse_lora(["unet"], lora_scale=0.5)
    ours.unet.unfuse_lora()
    ours.set_adapters("one", 0.25)
    ours.unfuse_lora()  # of nothing: what was set stays
    stock.set_adapters("one", 0.25)
    assert same(frame_of(ours), image_of(stock))
    ours.set_adapters("one")
    ours.fuse_lora()
    ours.unload_lora_weights()
    assert same(frame_of(ours), alone)
    ours.save_pretrained(tmp_path / "fused")
    assert same(frame_of(load_ours(tmp_path / "fused")), alone)
    assert not torch.equal(ours.unet.state_dict()[(name := "mid_block.resnets.0.conv1.weight")], weights[name])


def test_a_lora_may_be_named_in_all_the_ways_that_diffusers_takes(sd1_folder: Path, lora: Path, tmp_path: Path) -> None:
    ours = load_ours(sd1_folder)
    ours.load_lora_weights(lora.parent)
    assert ours.get_active_adapters() == ["default_0"]
    wanted = frame_of(ours)
    ours.unload_lora_weights()
    # A model of the hub, as it lies in the cache.
    snapshot = tmp_path / "models--someone--style" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (tmp_path / "models--someone--style" / "refs").mkdir()
    (tmp_path / "models--someone--style" / "refs" / "main").write_text("0" * 40)
    (snapshot / "style.safetensors").write_bytes(lora.read_bytes())
    ours.load_lora_weights("someone/style", weight_name="style.safetensors", cache_dir=tmp_path)
    assert same(frame_of(ours), wanted)
    (snapshot / "adapter_model.safetensors").write_bytes(lora.read_bytes())
    with pytest.raises(ValueError, match=r"adapter_config\.json of someone/style, .* could not be downloaded"):
        ours.load_lora_weights("someone/style", cache_dir=tmp_path, local_files_only=True)
    with pytest.raises(ValueError, match="there is an adapter default_0 already"):
        ours.load_lora_weights(lora, adapter_name="default_0")
    with pytest.raises(ValueError, match="could not be downloaded"):
        ours.load_lora_weights("someone/nothing", cache_dir=tmp_path)


def test_the_other_pipeline_of_shared_weights_is_not_changed(sd1_folder: Path, lora: Path, tmp_path: Path) -> None:
    first = load_ours(sd1_folder)
    second = LatentShiftPipeline.from_pipe(first)
    second.set_progress_bar_config(disable=True)
    before = frame_of(first)
    second.load_lora_weights(lora)
    assert same(frame_of(first), before)
    second.fuse_lora()
    second.load_textual_inversion(torch.ones(2, TEXT_WIDTH), token="<new>")
    assert same(frame_of(first), before) and not same(frame_of(second), before)
    assert "<new>" in second.tokenizer.get_vocab() and "<new>" not in first.tokenizer.get_vocab()
    assert same(frame_of(first, "red <new>"), image_of(load_stock(sd1_folder), "red <new>"))


def test_a_lora_of_our_training_needs_the_settings_that_it_was_trained_with(sd1_folder: Path, tmp_path: Path) -> None:
    trained = load_ours(sd1_folder)
    adapter = Lora(rank=2, alpha=4, targets=("to_q", "conv1"))
    add_lora(trained.unet, adapter)
    for name, value in trained.unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.3)
    save_lora(trained, adapter, tmp_path / "lora.safetensors")
    ours = load_ours(sd1_folder)
    ours.load_lora_weights(tmp_path / "lora.safetensors")
    np.testing.assert_allclose(frame_of(ours), frame_of(trained), atol=1e-3)  # the file is float16
    ours.set_shift({"padding": "zeros"})
    with pytest.raises(ValueError, match=r"other settings than this pipeline has \(shift\): .*load_adapter"):
        ours.load_lora_weights(tmp_path / "lora.safetensors", adapter_name="again")


@pytest.mark.parametrize("family", FAMILIES)
def test_learned_words(family: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder: Path = request.getfixturevalue(f"{family}_folder")
    ours, stock = load_ours(folder), load_stock(folder)
    torch.manual_seed(0)
    save_file({"<one>": torch.randn(1, TEXT_WIDTH)}, tmp_path / "one.safetensors")
    save_file({"emb_params": 3 * torch.randn(3, TEXT_WIDTH)}, tmp_path / "several.safetensors")
    before = frame_of(ours, "<one> star")
    for each in (ours, stock):
        for number in ("", "_2") if family == "sdxl" else ("",):
            parts = {name: getattr(each, name + number) for name in ("tokenizer", "text_encoder")}
            each.load_textual_inversion(str(tmp_path / "one.safetensors"), **parts)
            each.load_textual_inversion(str(tmp_path / "several.safetensors"), token="<many>", **parts)
    for prompt in ("<one> star", "red <many> on black", "a <many> <one>"):
        assert same(frame_of(ours, prompt), image_of(stock, prompt)), prompt
    assert not same(frame_of(ours, "<one> star"), before)
    ids = ours.text_encoders.tokenize(["red <many>"])[0, 0].tolist()
    assert [ours.tokenizer.convert_tokens_to_ids(f"<many>{end}") for end in ("", "_1", "_2")] == ids[2:5]
    ours.save_pretrained(tmp_path / "saved")
    assert same(frame_of(load_ours(tmp_path / "saved"), "<one> star"), frame_of(ours, "<one> star"))
    if family == "sd1":
        ours.unload_textual_inversion()
        assert same(frame_of(ours, "<one> star"), before)
        ours.save_pretrained(tmp_path / "again")


def test_two_ip_adapters_beside_a_lora(sd1_folder: Path, lora: Path, tmp_path: Path) -> None:
    ours, stock = load_ours(sd1_folder), load_stock(sd1_folder)
    names = [write_ip_adapter(ours.unet, tmp_path, seed)["weight_name"] for seed in (0, 1)]
    for each in (ours, stock):
        each.load_ip_adapter(tmp_path, subfolder="models", weight_name=names)
        each.load_lora_weights(lora)
        each.set_ip_adapter_scale([0.3, 0.6])
    pictures = [picture(1), picture(2)]
    image = image_of(stock, ip_adapter_image=pictures)
    assert same(frame_of(ours, ip_adapter_image=pictures), image)
    again = LatentShiftPipeline.from_pipe(ours)
    again.set_progress_bar_config(disable=True)
    assert same(frame_of(again, ip_adapter_image=pictures), image)


def test_freeu_fused_projections_slices_and_tiles(sd1_folder: Path, tmp_path: Path) -> None:
    ours, stock = load_ours(sd1_folder), load_stock(sd1_folder)
    plain = image_of(stock)
    for change, undo in (
        (lambda pipe: pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.4, b2=1.6), lambda pipe: pipe.disable_freeu()),
        (lambda pipe: pipe.fuse_qkv_projections(), lambda pipe: pipe.unfuse_qkv_projections()),
    ):
        for each in (ours, stock):
            change(each)
        image = image_of(stock)
        assert same(frame_of(ours), image)
        for each in (ours, stock):
            undo(each)
        assert same(frame_of(ours), plain)
    ours.save_pretrained(tmp_path / "as-before")
    given: dict[str, Any] = {"height": 48, "width": 48}
    options = {"num_frames": 2, **FEW, **given}
    decoded = ours("red", generator=torch.Generator().manual_seed(1), **options).frames
    ours.enable_vae_slicing()
    assert ours.vae.use_slicing and same(
        ours("red", generator=torch.Generator().manual_seed(1), **options).frames, decoded
    )
    ours.disable_vae_slicing()
    ours.enable_vae_tiling()
    stock.vae.enable_tiling()
    tiled = frame_of(ours, **given)
    assert same(tiled, image_of(stock, **given))
    ours.disable_vae_tiling()
    assert not same(frame_of(ours, **given), tiled)


def test_joint_projections_and_adapters_do_not_pass_by_each_other(sd1_folder: Path, lora: Path, tmp_path: Path) -> None:
    adapter = write_ip_adapter(load_stock(sd1_folder).unet, tmp_path)
    joint = load_ours(sd1_folder)
    joint.fuse_qkv_projections()
    for load in (lambda: joint.load_lora_weights(lora), lambda: joint.load_ip_adapter(tmp_path, **adapter)):
        with pytest.raises(ValueError, match="would not reach the joint projections"):
            load()
    joint.unfuse_qkv_projections()
    joint.load_lora_weights(lora)
    with_lora = frame_of(joint)
    with pytest.raises(ValueError, match="would leave out the LoRA"):
        joint.fuse_qkv_projections()
    assert same(frame_of(joint), with_lora)
    joint.fuse_lora()
    joint.unload_lora_weights()
    joint.fuse_qkv_projections()
    np.testing.assert_allclose(frame_of(joint), with_lora, atol=1e-4)
    adapted = load_ours(sd1_folder)
    adapted.load_ip_adapter(tmp_path, **adapter)
    with pytest.raises(ValueError, match="would replace the IP-Adapters' attention"):
        adapted.fuse_qkv_projections()


def test_the_call_of_a_lora_on_the_papers_text_encoder(ldm_folder: Path, tmp_path: Path) -> None:
    ours = LatentShiftPipeline.from_pretrained(ldm_folder)
    ours.set_progress_bar_config(disable=True)
    before = frame_of(ours)
    trained = LatentShiftPipeline.from_pretrained(ldm_folder)
    trained.set_progress_bar_config(disable=True)
    add_to_all(trained)
    file = write_lora(trained, tmp_path, "diffusers-alone")
    ours.load_lora_weights(file)
    assert set(ours.get_list_adapters()) == {"unet", "text_encoder"} and not same(frame_of(ours), before)
    ours.unload_lora_weights()
    assert same(frame_of(ours), before)
    ours.load_textual_inversion(torch.ones(1, TEXT_WIDTH), token="<new>")
    assert not same(frame_of(ours, "<new>"), frame_of(ours, "star"))


def test_what_is_for_another_model_or_no_adapter_changes_nothing(
    sd1_folder: Path, sdxl_folder: Path, lora: Path, tmp_path: Path
) -> None:
    ours, xl = load_ours(sd1_folder), load_stock(sdxl_folder)
    before = frame_of(ours)
    add_to_all(xl)
    kohya, original = (load_file(write_lora(xl, tmp_path / style, style)) for style in ("kohya", "kohya-original"))
    stock = load_stock(sd1_folder)
    add_to_all(stock)
    write_lora(stock, tmp_path / "peft", "peft")
    (tmp_path / "peft" / "adapter_config.json").unlink()
    good = load_file(lora)
    query = next(name for name in good if "attn2.to_k.lora_A" in name)
    damaged = {**good, query: good[query][:1]}
    save_file({"unet.x": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(lora.read_bytes()[:40])
    for name in ("style.pt", "zip.safetensors"):
        torch.save({"x": torch.zeros(1)}, tmp_path / name)
    unknown = {name.replace("attn1", "attn7"): value for name, value in good.items()}
    peft_names = {f"base_model.model.{name.removeprefix('unet.')}": good[name] for name in good if "unet." in name}
    alpha = {f"{query.partition('.lora_A')[0]}.alpha": torch.tensor(1.0)}

    def with_settings(text: str, more: dict[str, torch.Tensor] | None = None) -> Path:
        file = tmp_path / f"settings{len(list(tmp_path.iterdir()))}.safetensors"
        unet = {name: value for name, value in good.items() if name.startswith("unet.")}
        save_file({**unet, **(more or {})}, file, metadata={"lora_adapter_metadata": text})
        return file

    refusals: list[tuple[Any, str]] = [
        (peft_names, "tensors by name do not say how strong it is .*: give the file"),
        ({**good, "unet.mid_block.alpha": torch.tensor(1.0)}, "no factors that its tensor unet.mid_block.alpha is for"),
        ({**good, next(iter(alpha)): torch.ones(2)}, "must be one number, not of shape"),
        (with_settings('{"unet.r": 2, "unet.lora_alpha": 6}', alpha), "says twice how strong it is"),
        (with_settings("[1]"), "must hold settings by name, not a list"),
        (with_settings('{"unet.r": "x", "unet.lora_alpha": 6}'), "unet.r must be a whole number .*, not 'x'"),
        (with_settings('{"text_encoder.r": 2, "text_encoder.lora_alpha": 6}'), "unet.r must be a whole number"),
        (with_settings('{"unet.r": 2, "unet.lora_alpha": 6, "unet.use_dora": true}'), "DoRA is not supported"),
        (
            with_settings('{"unet.r": 3, "unet.lora_alpha": 6}'),
            "is of rank 3 by its settings, and its tensor unet.* of 2",
        ),
        ({**good, query.replace("lora_A.weight", "lora_magnitude_vector"): torch.ones(2)}, "LyCORIS or DoRA"),
        (write_lora(xl, tmp_path / "xl", "diffusers"), "is a LoRA of another model"),
        (kohya, "LoRA of another model than this one"),
        (original, "LoRA of another model than this one"),
        (tmp_path / "peft", "adapter_config.json, which says how strong it is .* is not beside it"),
        (damaged, "is damaged: the two factors"),
        (unknown, "its unet has no layer .*attn7"),
        ({name.replace("lora_A", "lokr_w1"): value for name, value in good.items()}, "LyCORIS or DoRA"),
        ({}, "it has no tensor named lora_A or lora_down"),
        (tmp_path / "foreign.safetensors", r"is no LoRA: its tensor unet\.x"),
        (tmp_path / "cut.safetensors", "can't be read as safetensors"),
        (tmp_path / "style.pt", "is a pickle"),
        (tmp_path / "zip.safetensors", "is a pickle"),
        (tmp_path / "nothing.safetensors", "there is no file"),
        (tmp_path, "name the LoRA's file with weight_name"),
    ]
    for source, words in refusals:
        with pytest.raises(ValueError, match=words):
            ours.load_lora_weights(source)
    with pytest.raises(ValueError, match=r"weight_name must be the textual inversion's \.safetensors file, not 'word'"):
        ours.load_textual_inversion(str(tmp_path), weight_name="word")
    with pytest.raises(ValueError, match="'<nothing>' is no learned word of this tokenizer: it has none"):
        ours.unload_textual_inversion("<nothing>")
    for source, token, words in (
        (torch.ones(1, 3), "<new>", "it is 3 wide, and the encoder's embeddings are 16"),
        ({"clip_l": torch.ones(1, 16), "clip_g": torch.ones(1, 16)}, "<new>", "has 2 tensors"),
        ({"emb_params": torch.ones(1, 16)}, None, "does not name its word: give token"),
        (torch.ones(1, 16), "red", "Token red already in tokenizer vocabulary"),
        (str(tmp_path / "style.pt"), "<new>", "is a pickle"),
    ):
        with pytest.raises(ValueError, match=words):
            ours.load_textual_inversion(source, token=token)
    where = write_ip_adapter(xl.unet, tmp_path / "ip")
    (tmp_path / "pickled" / "image_encoder").mkdir(parents=True)
    encoder = tiny_image_encoder()
    encoder.config.save_pretrained(tmp_path / "pickled" / "image_encoder")
    torch.save(encoder.state_dict(), tmp_path / "pickled" / "image_encoder" / "pytorch_model.bin")
    save_file({"x": torch.zeros(1)}, tmp_path / "pickled" / "image_encoder" / "x.safetensors")
    fitting = write_ip_adapter(ours.unet, tmp_path / "fitting")
    adapter = (tmp_path / "fitting" / "models" / fitting["weight_name"]).read_bytes()
    (tmp_path / "pickled" / "x.safetensors").write_bytes(adapter)
    for source, given, words in (
        (tmp_path / "ip", where, "is an IP-Adapter of another model than this one"),
        (tmp_path / "ip", {**where, "weight_name": "adapter.bin"}, "is a pickle"),
        (tmp_path / "ip", {"subfolder": "models"}, "must be the IP-Adapter's .safetensors file"),
        (
            tmp_path / "pickled",
            {"weight_name": "x.safetensors"},
            "image_encoder can't be loaded as safetensors",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            ours.load_ip_adapter(source, **given)
    assert ours.image_encoder is None and ours.get_list_adapters() == {}
    assert same(frame_of(ours), before)


def test_a_lora_that_fails_half_way_leaves_the_pipeline_as_it_was(
    sd1_folder: Path, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = load_ours(sd1_folder)

    def interrupt(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    keys = set(ours.unet.state_dict())
    for first in (True, False):
        before = ours.get_list_adapters(), ours.get_active_adapters()
        with monkeypatch.context() as patch:
            patch.setattr(type(ours), "load_lora_into_text_encoder", interrupt)
            with pytest.raises(KeyboardInterrupt):
                ours.load_lora_weights(lora, adapter_name="second")
        assert (ours.get_list_adapters(), ours.get_active_adapters()) == before
        if first:
            assert set(ours.unet.state_dict()) == keys
            ours.load_lora_weights(lora, adapter_name="other")
            ours.load_lora_weights(lora, adapter_name="kept")
            ours.set_adapters("kept")


def test_the_settings_of_a_file_name_no_modules(sd1_folder: Path, lora: Path, tmp_path: Path) -> None:
    with safe_open(lora, "pt") as file:
        settings = json.loads(file.metadata()["lora_adapter_metadata"])
    ours, wanted = load_ours(sd1_folder), load_ours(sd1_folder)
    strange = {"unet.megatron_config": {"x": 1}, "unet.megatron_core": "megatron.no_such_module", "unet.new": 1}
    metadata = {"lora_adapter_metadata": json.dumps({**settings, **strange})}
    save_file(load_file(lora), tmp_path / "strange.safetensors", metadata=metadata)
    ours.load_lora_weights(tmp_path / "strange.safetensors")
    wanted.load_lora_weights(lora)
    assert same(frame_of(ours), frame_of(wanted))


def test_generate_merges_loras_of_any_trainer_with_their_weights(
    cli: Any, sd1_folder: Path, lora: Path, tmp_path: Path
) -> None:
    trained = load_ours(sd1_folder)
    add_to_all(trained, seed=9)
    kohya = write_lora(trained, tmp_path / "kohya", "kohya")
    other = LatentShiftPipeline.from_pretrained(sd1_folder, shift={"padding": "circular"})
    own, tuned = tmp_path / "own.safetensors", Lora(rank=2, targets=("to_q",))
    add_lora(other.unet, tuned)
    for name, value in other.unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.3)
    save_lora(other, tuned, own)
    merged = load_adapted(str(sd1_folder), "cpu", "float32", [f"{own}:2", str(lora), f"{kohya}:-0.5"])
    merged.set_progress_bar_config(disable=True)
    live = LatentShiftPipeline.from_pretrained(sd1_folder)
    load_adapter(live, own, weight=2.0)
    live.set_progress_bar_config(disable=True)
    for name, path in (("one", lora), ("two", kohya)):
        live.load_lora_weights(path, adapter_name=name)
    live.set_adapters(["one", "two"], [1.0, -0.5])
    assert merged.config.shift["padding"] == live.config.shift["padding"] == "circular"
    options = {**FEW, "num_frames": 2, "guidance_scale": 2.0}
    videos = [each("red", generator=torch.Generator().manual_seed(1), **options).frames for each in (merged, live)]
    np.testing.assert_allclose(*videos, atol=1e-4, rtol=0)
    words = ("generate", "red", "--model", sd1_folder, "--steps", 2, "--frames", 1, "--seed", 1, "-o", "a.png")
    code, _, errors = cli(*words, "--lora", lora, "--lora", f"{kohya}:0.25")
    assert code == 0, errors
    assert read_metadata(Path("a.png"))["lora"] == [str(lora), f"{kohya}:0.25"]
    code, _, errors = cli(*words, "--lora", own, "--lora", lora, "--lora", f"{own}:0.5")
    assert code == 0, errors  # of one training, both are weights alone
    second = tmp_path / "second.safetensors"
    other.set_shift({"padding": "zeros"})
    save_lora(other, tuned, second)
    code, _, errors = cli(*words, "--lora", own, "--lora", second)
    assert code == 1 and "are video models with settings of their own: use one of them" in errors
    delta = tmp_path / "delta.safetensors"
    for share, message in ((0.0, ""), (1.0, f"{delta} and {own} are video models with settings of their own")):
        same = LatentShiftPipeline.from_pretrained(sd1_folder, shift={"padding": "circular"}, noise_share=share)
        save_delta(same, same, delta)
        code, _, errors = cli(*words, "--delta", delta, "--lora", own)
        assert code == bool(message) and message in errors
