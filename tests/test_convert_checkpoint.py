"""Checkpoint files in the layout of the code that the models were first published with."""

from __future__ import annotations

import pickle
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from safetensors.torch import save_file

from latentshift import LatentShiftPipeline
from latentshift.models.storage.convert_checkpoint import (
    convert_tensors,
    find_original_family,
    load_original_checkpoint,
    read_tensors,
)
from latentshift.models.storage.families import FAMILIES, Family, TextModel, unet_config, vae_config
from tiny_models import TINY_BERT, TOKENS, tiny_tokenizer

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def layer(name: str, *shape: int, bias: bool = True) -> Shapes:
    yield f"{name}.weight", shape
    if bias:
        yield f"{name}.bias", shape[:1]


def unet_block(name: str, before: int, after: int, time: int) -> Shapes:
    yield from layer(f"{name}.in_layers.0", before)
    yield from layer(f"{name}.in_layers.2", after, before, 3, 3)
    yield from layer(f"{name}.emb_layers.1", after, time)
    yield from layer(f"{name}.out_layers.0", after)
    yield from layer(f"{name}.out_layers.3", after, after, 3, 3)
    if before != after:
        yield from layer(f"{name}.skip_connection", after, before, 1, 1)


def spatial_transformer(name: str, width: int, depth: int, context: int, linear: bool) -> Shapes:
    point = () if linear else (1, 1)
    yield from layer(f"{name}.norm", width)
    yield from layer(f"{name}.proj_in", width, width, *point)
    for block in (f"{name}.transformer_blocks.{k}" for k in range(depth)):
        for attention, keys in (("attn1", width), ("attn2", context)):
            yield from layer(f"{block}.{attention}.to_q", width, width, bias=False)
            yield from layer(f"{block}.{attention}.to_k", width, keys, bias=False)
            yield from layer(f"{block}.{attention}.to_v", width, keys, bias=False)
            yield from layer(f"{block}.{attention}.to_out.0", width, width)
        yield from layer(f"{block}.ff.net.0.proj", 8 * width, width)
        yield from layer(f"{block}.ff.net.2", width, 4 * width)
        for norm in ("norm1", "norm2", "norm3"):
            yield from layer(f"{block}.{norm}", width)
    yield from layer(f"{name}.proj_out", width, width, *point)


def original_unet(config: dict[str, Any]) -> Shapes:
    """openaimodel.UNetModel: numbered input blocks, a middle, numbered output blocks with the skips joined on."""
    widths, layers = config["block_out_channels"], config["layers_per_block"]
    depths = config.get("transformer_layers_per_block", 1)
    depths = [depths] * len(widths) if isinstance(depths, int) else list(depths)
    attends = [kind.startswith("CrossAttn") for kind in config["down_block_types"]]
    context, linear = config["cross_attention_dim"], config.get("use_linear_projection", False)
    time, width = 4 * widths[0], widths[0]
    yield from layer("time_embed.0", time, widths[0])
    yield from layer("time_embed.2", time, time)
    if "addition_embed_type" in config:
        yield from layer("label_emb.0.0", time, config["projection_class_embeddings_input_dim"])
        yield from layer("label_emb.0.2", time, time)
    yield from layer("input_blocks.0.0", width, config["in_channels"], 3, 3)
    skips, number = [width], 1
    for level, after in enumerate(widths):
        for _ in range(layers):
            yield from unet_block(f"input_blocks.{number}.0", width, after, time)
            width = after
            if attends[level]:
                yield from spatial_transformer(f"input_blocks.{number}.1", width, depths[level], context, linear)
            skips.append(width)
            number += 1
        if level < len(widths) - 1:
            yield from layer(f"input_blocks.{number}.0.op", width, width, 3, 3)
            skips.append(width)
            number += 1
    yield from unet_block("middle_block.0", width, width, time)
    yield from spatial_transformer("middle_block.1", width, depths[-1], context, linear)
    yield from unet_block("middle_block.2", width, width, time)
    number = 0
    for level, after in reversed(list(enumerate(widths))):
        for k in range(layers + 1):
            yield from unet_block(f"output_blocks.{number}.0", width + skips.pop(), after, time)
            width = after
            if attends[level]:
                yield from spatial_transformer(f"output_blocks.{number}.1", width, depths[level], context, linear)
            if level and k == layers:
                yield from layer(f"output_blocks.{number}.{1 + attends[level]}.conv", width, width, 3, 3)
            number += 1
    yield from layer("out.0", width)
    yield from layer("out.2", config["out_channels"], width, 3, 3)


def vae_block(name: str, before: int, after: int) -> Shapes:
    yield from layer(f"{name}.norm1", before)
    yield from layer(f"{name}.conv1", after, before, 3, 3)
    yield from layer(f"{name}.norm2", after)
    yield from layer(f"{name}.conv2", after, after, 3, 3)
    if before != after:
        yield from layer(f"{name}.nin_shortcut", after, before, 1, 1)


def vae_middle(name: str, width: int) -> Shapes:
    yield from vae_block(f"{name}.block_1", width, width)
    yield from layer(f"{name}.attn_1.norm", width)
    for part in ("q", "k", "v", "proj_out"):
        yield from layer(f"{name}.attn_1.{part}", width, width, 1, 1)
    yield from vae_block(f"{name}.block_2", width, width)


def original_vae(config: dict[str, Any]) -> Shapes:
    """model.Encoder and model.Decoder; the decoder's levels are numbered from the finest."""
    widths, layers, latent = config["block_out_channels"], config["layers_per_block"], config["latent_channels"]
    width = widths[0]
    yield from layer("encoder.conv_in", width, 3, 3, 3)
    for level, after in enumerate(widths):
        for k in range(layers):
            yield from vae_block(f"encoder.down.{level}.block.{k}", width, after)
            width = after
        if level < len(widths) - 1:
            yield from layer(f"encoder.down.{level}.downsample.conv", width, width, 3, 3)
    yield from vae_middle("encoder.mid", width)
    yield from layer("encoder.norm_out", width)
    yield from layer("encoder.conv_out", 2 * latent, width, 3, 3)
    yield from layer("decoder.conv_in", width, latent, 3, 3)
    yield from vae_middle("decoder.mid", width)
    for level, after in reversed(list(enumerate(widths))):
        for k in range(layers + 1):
            yield from vae_block(f"decoder.up.{level}.block.{k}", width, after)
            width = after
        if level:
            yield from layer(f"decoder.up.{level}.upsample.conv", width, width, 3, 3)
    yield from layer("decoder.norm_out", width)
    yield from layer("decoder.conv_out", 3, width, 3, 3)
    yield from layer("quant_conv", 2 * latent, 2 * latent, 1, 1)
    yield from layer("post_quant_conv", latent, latent, 1, 1)


def original_bert(config: Any) -> Shapes:
    """x_transformer.TransformerWrapper: every second layer attention, every other feed-forward, each after a norm."""
    width, inner = config.d_model, config.encoder_attention_heads * config.head_dim
    yield "token_emb.weight", (config.vocab_size, width)
    yield "pos_emb.emb.weight", (config.max_position_embeddings, width)
    for k in range(config.encoder_layers):
        attention, forward = (f"attn_layers.layers.{2 * k + more}" for more in (0, 1))
        yield from layer(f"{attention}.0", width)
        for part in ("to_q", "to_k", "to_v"):
            yield from layer(f"{attention}.1.{part}", inner, width, bias=False)
        yield from layer(f"{attention}.1.to_out", width, inner)
        yield from layer(f"{forward}.0", width)
        yield from layer(f"{forward}.1.net.0.0", config.encoder_ffn_dim, width)
        yield from layer(f"{forward}.1.net.2", width, config.encoder_ffn_dim)
    yield from layer("norm", width)
    yield from layer("to_logits", config.vocab_size, width)


def original_clip(config: Any) -> Shapes:
    """transformers' CLIP text model, as the files that are older than its present names hold it."""
    width = config.hidden_size
    yield "text_model.embeddings.token_embedding.weight", (config.vocab_size, width)
    yield "text_model.embeddings.position_embedding.weight", (77, width)
    yield "text_model.embeddings.position_ids", (1, 77)
    for block in (f"text_model.encoder.layers.{k}" for k in range(config.num_hidden_layers)):
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from layer(f"{block}.self_attn.{part}", width, width)
        for norm in ("layer_norm1", "layer_norm2"):
            yield from layer(f"{block}.{norm}", width)
        yield from layer(f"{block}.mlp.fc1", config.intermediate_size, width)
        yield from layer(f"{block}.mlp.fc2", width, config.intermediate_size)
    yield from layer("text_model.final_layer_norm", width)


def original_open_clip(config: Any, unused_layers: int) -> Shapes:
    """open_clip's text half; SD 2 leaves its last layer and its projection unused."""
    width = config.hidden_size
    yield "positional_embedding", (77, width)
    yield "text_projection", (width, width)
    yield "logit_scale", ()
    yield "token_embedding.weight", (config.vocab_size, width)
    for block in (f"transformer.resblocks.{k}" for k in range(config.num_hidden_layers + unused_layers)):
        yield from layer(f"{block}.ln_1", width)
        yield from layer(f"{block}.ln_2", width)
        yield f"{block}.attn.in_proj_weight", (3 * width, width)
        yield f"{block}.attn.in_proj_bias", (3 * width,)
        yield from layer(f"{block}.attn.out_proj", width, width)
        yield from layer(f"{block}.mlp.c_fc", config.intermediate_size, width)
        yield from layer(f"{block}.mlp.c_proj", width, config.intermediate_size)
    yield from layer("ln_final", width)


def original(family: Family, *, average: bool = False) -> dict[str, torch.Tensor]:
    """A file's tensors, with random values (on the default device)."""
    shapes = {f"model.diffusion_model.{name}": shape for name, shape in original_unet(unet_config(family))}
    if average:
        shapes |= {"model_ema." + "".join(name.split(".")[1:]): shape for name, shape in list(shapes.items())}
        shapes |= {"model_ema.decay": (), "model_ema.num_updates": ()}
    shapes |= {f"first_stage_model.{name}": shape for name, shape in original_vae(vae_config(family))}
    for text, encoder in zip(family.original, family.text_encoders, strict=True):
        config = encoder.config(**encoder.sizes)
        names = {
            "x-transformers": original_bert,
            "clip": original_clip,
            "open-clip": lambda config: original_open_clip(config, int(len(family.original) == 1)),
        }[text.layout](config)
        shapes |= {text.root + name: shape for name, shape in names}
    shapes |= {"betas": (1000,), "alphas_cumprod": (1000,), "logvar": (1000,)}
    generator = None if torch.get_default_device().type == "meta" else torch.Generator().manual_seed(0)
    return {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def tiny_family() -> Family:
    """The paper's base, only smaller."""
    width = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "sample_size": 8}
    kinds = {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D")}
    kinds["up_block_types"] = ("UpBlock2D", "CrossAttnUpBlock2D")
    vae = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return replace(
        FAMILIES["ldm"],
        unet={**width, **kinds, "attention_head_dim": 2, "cross_attention_dim": 16},
        vae={**width, **vae, "block_out_channels": (8, 8), "sample_size": 16},
        text_encoders=(TextModel(LDMBertModel, LDMBertConfig, TINY_BERT),),
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_every_tensor_of_a_full_size_file_is_used_once(name: str) -> None:
    with torch.device("meta"):
        tensors = original(FAMILIES[name], average=name == "ldm")
        wanted = name if name.startswith("sd2") else None
        assert find_original_family(tensors, wanted) == name
        parts = convert_tensors(tensors, FAMILIES[name])
    assert tensors == {}
    assert set(parts) == {"unet", "vae", "text_encoder"} | ({"text_encoder_2"} if name == "sdxl" else set())


def restated_bert(tensors: dict[str, torch.Tensor], ids: torch.Tensor, heads: int) -> torch.Tensor:
    """The original's forward, from the tensors by their own names: pre-norm layers, full attention, exact GELU."""

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        centred = x - x.mean(dim=-1, keepdim=True)
        scaled = centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
        return scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ tensors[f"{name}.weight"].T + tensors.get(f"{name}.bias", torch.zeros(()))

    x = tensors["token_emb.weight"][ids] + tensors["pos_emb.emb.weight"][: ids.shape[1]]
    layers = 1 + max(int(name.split(".")[2]) for name in tensors if name.startswith("attn_layers"))
    for number in range(layers):
        name = f"attn_layers.layers.{number}"
        normed = norm(x, f"{name}.0")
        if number % 2 == 0:
            query, key, value = (
                linear(normed, f"{name}.1.{part}").unflatten(-1, (heads, -1)).transpose(1, 2)
                for part in ("to_q", "to_k", "to_v")
            )
            weights = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(dim=-1)
            x = x + linear((weights @ value).transpose(1, 2).flatten(2), f"{name}.1.to_out")
        else:
            hidden = linear(normed, f"{name}.1.net.0.0")
            x = x + linear(hidden * (1 + torch.erf(hidden / 2**0.5)) / 2, f"{name}.1.net.2")
    return norm(x, "norm")


def check_bert(family: Family) -> None:
    root = family.original[0].root
    tensors = original(family)
    own = {name.removeprefix(root): value.double() for name, value in tensors.items() if name.startswith(root)}
    bert = convert_tensors(tensors, family)["text_encoder"].double().eval()
    assert isinstance(bert, LDMBertModel)
    ids = torch.randint(bert.config.vocab_size, (2, bert.config.max_position_embeddings))
    with torch.no_grad():
        torch.testing.assert_close(bert(ids)[0], restated_bert(own, ids, bert.config.encoder_attention_heads))


def test_the_converted_bert_says_what_the_original_says() -> None:
    check_bert(tiny_family())


@pytest.mark.slow
def test_the_converted_bert_says_what_the_original_says_at_full_size() -> None:
    small = tiny_family()
    check_bert(replace(FAMILIES["ldm"], unet=small.unet, vae=small.vae))


def test_averaged_weights_are_taken_unless_told_otherwise() -> None:
    family = tiny_family()
    for average in (True, False):
        tensors = original(family, average=True)
        plain = tensors["model.diffusion_model.out.2.weight"]
        averaged = tensors["model_ema.diffusion_modelout2weight"]
        unet = convert_tensors(tensors, family, average=average)["unet"]
        assert torch.equal(unet.conv_out.weight, averaged if average else plain)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("model.diffusion_model.out.2.bias"), "U-Net is incomplete: conv_out.bias"),
        (lambda tensors: tensors.update({"control_model.x": torch.zeros(1)}), "no part of the model that is known"),
        (
            lambda tensors: tensors.update({"first_stage_model.encoder.more": torch.zeros(1)}),
            "unused tensors",
        ),
        (
            lambda tensors: tensors.update({"model.diffusion_model.out.2.bias": torch.zeros(5)}),
            r"of \(5,\) instead of",
        ),
        (lambda tensors: tensors.update({"cond_stage_model.transformer.x": torch.zeros(1)}), "of this family has no"),
    ],
)
def test_what_does_not_fit_is_named(change: Any, message: str) -> None:
    tensors = original(tiny_family())
    change(tensors)
    with pytest.raises(ValueError, match=message):
        convert_tensors(tensors, tiny_family())


def test_families_that_the_tensors_do_not_tell() -> None:
    with torch.device("meta"):
        tensors = original(FAMILIES["sd2"])
    for wanted, message in (
        (None, "fit sd2 and sd2-base alike; choose one with family"),
        ("sd1", "of sd2 or sd2-base, not of sd1"),
        ("sd3", "unknown family 'sd3'"),
    ):
        with pytest.raises(ValueError, match=message):
            find_original_family(tensors, wanted)
    with pytest.raises(ValueError, match="not all tensors of a known image model"):
        find_original_family({"first_stage_model.weight": 0})


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small model's file in both formats, and a tokenizer."""
    monkeypatch.setitem(FAMILIES, "ldm", tiny_family())
    tensors = original(tiny_family())
    save_file(tensors, tmp_path / "model.safetensors")
    torch.save({"state_dict": tensors, "global_step": 7}, tmp_path / "model.ckpt")
    tiny_tokenizer().save_pretrained(tmp_path / "words")
    return tmp_path


def test_what_training_programs_leave_in_a_pickle_is_no_hindrance(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class of theirs as a key, an object of theirs, a score of numpy's: as pytorch-lightning writes them."""
    callbacks = ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    kind = type("ModelCheckpoint", (), {"__module__": callbacks.__name__, "__init__": lambda self, *arguments: None})
    callbacks.ModelCheckpoint = kind  # type: ignore[attr-defined]
    made = kind()
    made.best = 3
    contents = torch.load(files / "model.ckpt", weights_only=True)
    with monkeypatch.context() as training:
        for name in ("pytorch_lightning", "pytorch_lightning.callbacks"):
            training.setitem(sys.modules, name, ModuleType(name))
        training.setitem(sys.modules, callbacks.__name__, callbacks)
        contents["hyper_parameters"] = {"lists": defaultdict(list, a=[1]), "kind": dict}
        contents["callbacks"] = {kind: {"best_model_score": np.float64(0.5), "made": made}}
        torch.save(contents, files / "trained.ckpt")
    with pytest.raises(Exception, match="Unsupported global"):
        torch.load(files / "trained.ckpt", weights_only=True)
    plain, trained = (read_tensors(files / name, pickled=True) for name in ("model.ckpt", "trained.ckpt"))
    assert plain.keys() == trained.keys() and all(torch.equal(value, trained[name]) for name, value in plain.items())


def test_a_file_becomes_a_pipeline(files: Path, cli: Any) -> None:
    words = ("--tokenizer", files / "words")
    assert cli("convert", files / "model.ckpt", "-o", "pickled", *words)[:2] == (0, "pickled\n")
    assert cli("convert", files / "model.safetensors", "-o", "safe", *words)[0] == 0
    one, other = (LatentShiftPipeline.from_pretrained(name) for name in ("pickled", "safe"))
    assert one.method == "latent-shift" and one.tokenizer.model_max_length == 77
    for name in ("unet", "vae", "text_encoder"):
        mine, theirs = (getattr(each, name).state_dict() for each in (one, other))
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    assert cli("generate", "red", "--model", "safe", "--steps", 2, "--frames", 2, "-o", "clip.mp4")[0] == 0
    single = LatentShiftPipeline.from_single_file(
        files / "model.safetensors", tokenizer=str(files / "words"), num_frames=2
    )
    assert single.config.num_frames == 2 and single.text_encoders.length == TOKENS


class Evil:
    """What a pickle can do when it is opened."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (Path(self.path),)


def test_files_that_cannot_be_converted(files: Path, cli: Any, tmp_path: Path) -> None:
    (files / "evil.ckpt").write_bytes(pickle.dumps({"state_dict": Evil(str(tmp_path / "touched"))}))
    torch.save({"state_dict": Evil(str(tmp_path / "touched"))}, files / "evil2.ckpt")
    (files / "broken.safetensors").write_bytes((files / "model.safetensors").read_bytes()[:5000])
    torch.save({"epoch": 3}, files / "empty.ckpt")
    words = ("--tokenizer", files / "words")
    for name, more, message in (
        ("evil.ckpt", words, "can't be opened as tensors alone"),
        ("evil2.ckpt", words, "can't be opened as tensors alone"),
        ("broken.safetensors", words, "can't be read as safetensors"),
        ("empty.ckpt", words, "holds no tensors by name"),
        ("absent.ckpt", words, "there is no file"),
        ("model.ckpt", ("--tokenizer", files / "nowhere"), "the file has no tokenizer, and"),
        ("model.ckpt", (*words, "--family", "sd1"), "the tensors of ldm, not of sd1"),
        ("model.ckpt", (*words, "--dtype", "int8"), "unknown dtype 'int8'"),
    ):
        code, _, err = cli("convert", files / name, "-o", "new", *more)
        assert code == 1 and message in err and err.count("\n") == 1, err
        assert not Path("new").exists()
    assert not (tmp_path / "touched").exists()
    code, _, err = cli("generate", "red", "--model", files / "model.safetensors")
    assert code == 1 and "latentshift convert" in err
    with pytest.raises(ValueError, match="is a pickle, which can hold programs"):
        load_original_checkpoint(files / "model.ckpt")
