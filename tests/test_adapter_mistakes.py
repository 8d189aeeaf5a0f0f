"""Mistakes with adapters in ``LatentShiftPipeline``: each is one sentence, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from latentshift import LatentShiftPipeline
from latentshift.models.adapters.lora_file import is_own_lora
from latentshift.models.adapters.video_adapter import Lora, add_lora, load_adapter, save_lora
from test_loaders import frame_of, image_of, load_ours, load_stock, same, write_ip_adapter
from tiny_loras import add_to_all, write_lora
from tiny_models import TEXT_WIDTH
from tiny_pipelines import face

NAN = float("nan")


@pytest.fixture(scope="module")
def lora(sd1_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    stock = load_stock(sd1_folder)
    add_to_all(stock)
    return write_lora(stock, tmp_path_factory.mktemp("lora"), "diffusers-alone")


@pytest.fixture(scope="module")
def two(sd1_folder: Path, lora: Path) -> LatentShiftPipeline:
    """A pipeline with the LoRAs ``one`` and ``other``, of which ``one`` acts by half."""
    ours = load_ours(sd1_folder)
    for name in ("one", "other"):
        ours.load_lora_weights(lora, adapter_name=name)
    ours.set_adapters("one", 0.5)
    return ours


MISTAKES: dict[str, tuple[Callable[[Any], object], str]] = {
    "another name": (lambda pipe: pipe.set_adapters(["one", "none"]), "no adapter 'none': there are one, other"),
    "no name": (lambda pipe: pipe.set_adapters([]), "name an adapter"),
    "a name twice": (lambda pipe: pipe.set_adapters(["one", "one"]), "the adapter one is named twice"),
    "a weight that is a word": (lambda pipe: pipe.set_adapters("one", "x"), "adapter one must be a finite number"),
    "no number": (lambda pipe: pipe.set_adapters(["one"], [NAN]), "the weight of the adapter one must be a finite"),
    "weights of blocks": (
        lambda pipe: pipe.set_adapters("one", {"unet": {"down": NAN}}),
        "the weight of the adapter one in unet in down must be a finite number",
    ),
    "too few weights": (lambda pipe: pipe.set_adapters(["one", "other"], [1.0]), "are 1 weights for 2 adapters"),
    "another part": (lambda pipe: pipe.set_adapters("one", {"net": 0.5}), "are for net: choose from unet, text_enc"),
    "delete another": (lambda pipe: pipe.delete_adapters(["one", "none"]), "no adapter 'none'"),
    "fuse another": (lambda pipe: pipe.fuse_lora(adapter_names=["none"]), "no adapter 'none'"),
    "fuse by no number": (lambda pipe: pipe.fuse_lora(lora_scale=NAN), "lora_scale must be a finite number"),
    "FreeU": (lambda pipe: pipe.enable_freeu(0.9, NAN, 1.2, 1.4), "FreeU's s2 must be a finite number, not nan"),
    "a scale of no IP-Adapter": (lambda pipe: pipe.set_ip_adapter_scale(0.5), "no IP-Adapter is loaded that a scale"),
    "an IP-Adapter's scale": (lambda pipe: pipe.set_ip_adapter_scale([0.5, NAN]), "IP-Adapter must be a finite number"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_sentence(two: LatentShiftPipeline, case: str) -> None:
    mistake, words = MISTAKES[case]
    with pytest.raises(ValueError, match=words):
        mistake(two)
    assert two.get_list_adapters() == {"unet": ["one", "other"], "text_encoder": ["one", "other"]}
    assert two.get_active_adapters() == ["one"]


def test_names_of_adapters(two: LatentShiftPipeline, lora: Path) -> None:
    for name in ("", "a.b", 3):
        with pytest.raises(ValueError, match="adapter_name must be a word without dots"):
            two.load_lora_weights(lora, adapter_name=name)


def test_merged_loras_are_unmerged_first_or_kept(sd1_folder: Path, lora: Path) -> None:
    """peft would undo the merging when another is loaded, and ignore a weight."""
    ours = load_ours(sd1_folder)
    ours.load_lora_weights(lora, adapter_name="one")
    ours.fuse_lora()
    merged = frame_of(ours)
    for change in (
        lambda: ours.load_lora_weights(lora, adapter_name="other"),
        lambda: ours.set_adapters("one", 0.1),
        lambda: ours.delete_adapters("one"),
    ):
        with pytest.raises(ValueError, match=r"LoRAs are merged \(one\): call unfuse_lora first, or unload_lora_weigh"):
            change()
    with pytest.raises(ValueError, match="the scale of cross_attention_kwargs does not reach LoRAs that are merged"):
        frame_of(ours, cross_attention_kwargs={"scale": 0.5})
    assert same(frame_of(ours, cross_attention_kwargs={"scale": 1.0}), merged)
    ours.unload_lora_weights()
    ours.load_lora_weights(lora, adapter_name="other")
    ours.set_adapters("other", 0.0)
    assert same(frame_of(ours), merged)  # kept, and another may come
    ours.set_adapters("other", -1.0)
    assert same(frame_of(ours), frame_of(load_ours(sd1_folder)))  # which takes it away again


def test_weights_that_are_not_finite_are_refused(cli: Any, sd1_folder: Path, lora: Path, tmp_path: Path) -> None:
    ours = load_ours(sd1_folder)
    before = frame_of(ours)
    good = load_file(lora)
    name = next(name for name in good if "lora_B" in name)
    save_file({**good, name: torch.full_like(good[name], NAN)}, tmp_path / "nan.safetensors")
    with pytest.raises(ValueError, match=r"nan\.safetensors is damaged: its tensor .*lora_B.weight has values that"):
        ours.load_lora_weights(tmp_path / "nan.safetensors")
    code, _, errors = cli("generate", "red", "--model", sd1_folder, "--lora", "nan.safetensors", "-o", "a.png")
    assert code == 1 and "nan.safetensors is damaged" in errors and not Path("a.png").exists()

    tuned = Lora(rank=2, targets=("to_q",))
    trained = load_ours(sd1_folder)
    add_lora(trained.unet, tuned)
    save_lora(trained, tuned, tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match=r"the weight of .*own\.safetensors must be a finite number, not nan"):
        load_adapter(ours, tmp_path / "own.safetensors", weight=NAN)
    torch.nn.init.constant_(next(value for key, value in trained.unet.named_parameters() if "lora_B" in key), NAN)
    save_lora(trained, tuned, tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match=r"own\.safetensors is damaged: its tensor"):
        load_adapter(ours, tmp_path / "own.safetensors")

    with pytest.raises(ValueError, match="textual inversion is damaged"):
        ours.load_textual_inversion(torch.full((1, TEXT_WIDTH), NAN), token="<new>")
    assert "<new>" not in ours.tokenizer.get_vocab()

    where = write_ip_adapter(ours.unet, tmp_path)
    file = tmp_path / "models" / where["weight_name"]
    tensors = load_file(file)
    key = next(key for key in tensors if key.endswith("to_k_ip.weight"))
    tensors[key][0, 0] = torch.inf
    save_file(tensors, file)
    with pytest.raises(ValueError, match=r"IP-Adapter is damaged: its tensor .*to_k_ip"):
        ours.load_ip_adapter(tmp_path, **where)
    assert same(frame_of(ours), before)


def test_loras_act_beside_those_of_a_faceid_adapter_which_go_with_it(
    sd1_folder: Path, lora: Path, tmp_path: Path
) -> None:
    ours, stock = load_ours(sd1_folder), load_stock(sd1_folder)
    for each in (ours, stock):
        each.load_lora_weights(lora, adapter_name="style")
    ours.set_adapters("style", 0.5)
    alone = frame_of(ours)
    places = [
        (tmp_path / str(seed), write_ip_adapter(ours.unet, tmp_path / str(seed), seed, "faceid")) for seed in (0, 1)
    ]
    frames = []
    for folder, where in places:
        given = {"ip_adapter_image_embeds": [face(1)]}
        ours.load_ip_adapter(folder, **where)
        assert ours.get_active_adapters() == ["style", "faceid_0"]
        frames.append(frame_of(ours, **given))
        with pytest.raises(ValueError, match=r"an IP-Adapter FaceID is loaded \(faceid_0\): call unload_ip_adapter"):
            ours.load_ip_adapter(folder, **where)
        ours.unload_ip_adapter()
        assert ours.get_list_adapters() == {"unet": ["style"], "text_encoder": ["style"]}
        assert same(frame_of(ours), alone)
    folder, where = places[1]
    stock.load_ip_adapter(folder, **where)
    stock.set_adapters(["style", "faceid_0"], [0.5, 1.0])
    assert same(frames[1], image_of(stock, **given)) and not same(*frames)
    ours.unload_lora_weights()
    ours.load_ip_adapter(folder, **where)
    ours.unload_ip_adapter()
    assert ours.get_list_adapters() == {} and same(frame_of(ours), frame_of(load_ours(sd1_folder)))


def test_a_file_of_another_kind_or_model_is_no_ip_adapter(
    sd1_folder: Path, sdxl_folder: Path, lora: Path, tmp_path: Path
) -> None:
    ours = load_ours(sd1_folder)
    where = write_ip_adapter(load_stock(sdxl_folder).unet, tmp_path)
    for source, given, words in (
        (tmp_path, where, r"adapter0.safetensors is an IP-Adapter of another model .* \(8, 32\), .* \(8, 16\)"),
        (lora.parent, {"weight_name": lora.name}, "is no IP-Adapter: it has no tensors whose names begin with image"),
        (tmp_path / "nothing", where, "there is no file"),
        ({"image_proj": {}, "ip_adapter": {}}, {"image_encoder_folder": None}, "the IP-Adapter is no IP-Adapter"),
    ):
        with pytest.raises(ValueError, match=words):
            ours.load_ip_adapter(source, **given)
    with pytest.raises(ValueError, match="there is no file"):
        ours.load_textual_inversion(tmp_path / "nothing.safetensors")


def test_a_rank_that_is_not_that_of_the_tensors(cli: Any, sd1_folder: Path, lora: Path, tmp_path: Path) -> None:
    """Before the model is loaded."""
    settings = {"unet.r": 3, "unet.lora_alpha": 6, "text_encoder.r": 2, "text_encoder.lora_alpha": 6}
    metadata = {"lora_adapter_metadata": json.dumps(settings)}
    save_file(load_file(lora), tmp_path / "rank.safetensors", metadata=metadata)
    code, _, errors = cli("generate", "red", "--model", sd1_folder, "--lora", "rank.safetensors", "-o", "a.png")
    assert code == 1 and "rank.safetensors is of rank 3 by its settings, and its tensor unet." in errors


def test_a_delta_that_is_a_pickle_or_cut_short(cli: Any, sd1_folder: Path, lora: Path, tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1)}, tmp_path / "pickle.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(lora.read_bytes()[:-10])
    for name, message in (
        ("pickle", "pickle.safetensors is a pickle, which can run any code"),
        ("cut", "cut.safetensors can't be read as safetensors: it is cut short, damaged or of another kind"),
    ):
        words = ("generate", "red", "--model", sd1_folder, "--delta", f"{name}.safetensors", "-o", "a.png")
        code, _, errors = cli(*words)
        assert code == 1 and message in errors


@pytest.mark.parametrize("length", [640, 896, 1152, 1408])  # whose bytes are those that a pickle begins with
def test_a_file_is_no_pickle_for_the_length_of_its_header(length: int, tmp_path: Path) -> None:
    path = tmp_path / "style.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    header = path.read_bytes()[8:-4].rstrip()
    path.write_bytes(length.to_bytes(8, "little") + header.ljust(length) + bytes(4))
    assert not is_own_lora(path)
    path.write_bytes(length.to_bytes(8, "little") + bytes(length))
    with pytest.raises(ValueError, match="is a pickle"):
        is_own_lora(path)


def test_a_folder_in_place_of_the_loras_file_is_told_its_name(cli: Any, sd1_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    save_file({"a": torch.zeros(1)}, tmp_path / "run" / "lora.safetensors")
    code, _, err = cli("generate", "red", "--model", sd1_folder, "--lora", "run")
    assert code == 1 and "run is a folder, and no file: name the file in it, run/lora.safetensors" in err
