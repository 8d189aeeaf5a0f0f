"""CLIP's preprocessing and embeddings beside transformers' own, and folders that are not what they should be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer, CLIPVisionConfig
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from latentshift.evaluation.extractors import cache
from latentshift.evaluation.extractors.add import add_extractor
from latentshift.evaluation.extractors.clip import Clip, network_name
from latentshift.evaluation.extractors.load import load_extractor
from latentshift.evaluation.extractors.preprocess import CLIP_DEVIATION, CLIP_MEAN, for_clip
from latentshift.evaluation.protocols.measure import ExtractorInfo
from latentshift.evaluation.protocols.metric_names import full_name, other_clip_warning
from latentshift.evaluation.report.glossary import meanings
from tiny_extractors import CLIP_TOKENS, CLIP_WIDTH, tiny_clip_folder

PROMPTS = ["a red star", "Stars", "a red star " * 8]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip_folder(tmp_path_factory.mktemp("clip") / "tiny")


def frames(count: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=generator)


def clip(source: Path) -> Clip:
    add_extractor(source, "clip")
    extractor = load_extractor("clip")
    assert isinstance(extractor, Clip)
    return extractor


def test_one_colour_stays_that_colour_normalized() -> None:
    made = for_clip(torch.tensor([0, 100, 255], dtype=torch.uint8).expand(1, 50, 40, 3))
    assert made.shape == (1, 3, 224, 224)
    for channel, level in enumerate((0, 100, 255)):
        expected = (level / 255 - CLIP_MEAN[channel]) / CLIP_DEVIATION[channel]
        assert np.allclose(made[0, channel], expected, atol=1e-6)


@pytest.mark.parametrize("size", [(224, 224), (256, 256), (64, 64), (240, 321), (321, 240), (225, 230)])
def test_frames_are_prepared_as_transformers_prepares_pictures(size: tuple[int, int]) -> None:
    made = for_clip(frames(2, *size))
    expected = CLIPImageProcessorPil()(list(frames(2, *size).numpy()), return_tensors="pt")["pixel_values"]
    assert torch.allclose(made, expected, atol=2e-6)


def test_embeddings_are_those_of_transformers(source: Path) -> None:
    extractor = clip(source)
    model, tokenizer = CLIPModel.from_pretrained(source).eval(), CLIPTokenizer.from_pretrained(source)
    videos = torch.stack([frames(18, 48, 40), frames(18, 48, 40).flip(0)])
    rows, text = extractor(videos), extractor.text(PROMPTS)
    assert rows.shape == (2, 18, CLIP_WIDTH) and text.shape == (3, CLIP_WIDTH) and extractor.width == CLIP_WIDTH
    tokens = tokenizer(PROMPTS, padding=True, truncation=True, max_length=CLIP_TOKENS, return_tensors="pt")
    with torch.inference_mode():
        pictures = model.get_image_features(pixel_values=for_clip(videos.flatten(0, 1), 32)).pooler_output
        sentences = model.get_text_features(**tokens).pooler_output
    assert np.allclose(rows.reshape(36, -1), pictures, atol=1e-5) and np.allclose(text, sentences, atol=1e-5)
    assert np.array_equal(rows[1], extractor(videos[1:])[0]) and np.array_equal(
        text[1], extractor.text(PROMPTS[1:2])[0]
    )
    assert [extractor.is_cut(each) for each in PROMPTS] == [False, False, True]
    with pytest.raises(ValueError, match="no prompts"):
        extractor.text([])


def test_a_pickled_state_dict_gives_the_same(source: Path, tmp_path: Path) -> None:
    first = clip(source).text(PROMPTS)
    assert np.array_equal(first, clip(tiny_clip_folder(tmp_path / "other", safe=False)).text(PROMPTS))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, "does not describe a CLIP model of a usual size"),
        ({"projection_dim": 2**40}, "does not describe a CLIP model of a usual size"),
        ({"text_config": {"num_hidden_layers": 10**6}}, "does not describe a CLIP model of a usual size"),
        ({"vision_config": {"hidden_size": 18}}, r"does not describe a CLIP model \(|tensors differ"),
        ({"projection_dim": 4}, r"2 tensors differ, first text_projection.weight, which is \(8, 16\) and should be"),
    ],
)
def test_a_config_that_does_not_fit_is_a_sentence(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    source = tiny_clip_folder(tmp_path / "clip")
    config = json.loads((source / "config.json").read_text())
    for key, value in changes.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        clip(source)


def test_missing_tensors_and_a_broken_vocabulary_are_sentences(tmp_path: Path) -> None:
    source = tiny_clip_folder(tmp_path / "clip")
    weights = source / "model.safetensors"
    state = load_file(weights)
    save_file({name: value for name, value in state.items() if name != "text_projection.weight"}, weights)
    with pytest.raises(ValueError, match=r"1 tensors differ, first text_projection\.weight, which is nothing"):
        clip(source)
    save_file(state, weights)
    (source / "vocab.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"vocab\.json and merges\.txt are no tokenizer"):
        clip(source)


def test_a_clip_is_named_as_openai_does_and_cmmd_by_it_unless_it_is_the_published_one() -> None:
    names = {"ViT-B/32": (768, 32, 224), "ViT-L/14": (1024, 14, 224), "ViT-L/14@336": (1024, 14, 336)}
    sizes = ("hidden_size", "patch_size", "image_size")
    for name, values in names.items():
        vision = dict(zip(sizes, values, strict=True))
        assert network_name(CLIPVisionConfig(**vision, num_attention_heads=values[0] // 64)) == name
    info = ExtractorInfo("clip", "clip", "0" * 64, "frame", "embeddings", 512, "", network="ViT-B/32")
    large = replace(info, network="ViT-L/14@336")
    assert (full_name(info, "CMMD"), full_name(large, "CMMD")) == ("ViT-B/32-CMMD", "CMMD")
    assert full_name(replace(info, network=""), "CMMD") == "CLIP-CMMD"  # unknown is not the published one
    assert full_name(large, "CLIPSIM") == full_name(info, "CLIPSIM") == "CLIPSIM"
    assert other_clip_warning(info) == () and "by ViT-L/14@336: not comparable" in other_clip_warning(large)[0]
    assert dict(meanings(["ViT-B/32-CMMD"]))["ViT-B/32-CMMD"].endswith("so compare it with no published CMMD.")
