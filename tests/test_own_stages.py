"""Stages (a) and (b) on a folder of one's own, with a vocabulary or a text encoder of one's own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, LDMTextToImagePipeline, StableDiffusionPipeline
from PIL import Image
from transformers import BertConfig, BertModel

from latentshift import LatentShiftPipeline
from latentshift.models.conditioning.text import build_word_tokenizer, caption_words
from latentshift.training.data.captions import training_captions
from latentshift.training.models.text_model import build_text_model
from latentshift.training.recipe_file import dump_recipe, load_recipe
from latentshift.training.recipes.settings import DataSettings
from latentshift.training.run import run
from latentshift.training.stages.autoencoder import AutoencoderStage
from launch import finish, losses, train
from timed_video import write_video_at
from tiny_runs import RECIPES, TINY_IMAGE, TINY_RUN, TINY_TEXT, TINY_VAE, same_weights

CAPTIONS = ["A dog runs over the grass.", "a cat, asleep", "The dog sleeps"]
TINY_UNET = [*TINY_IMAGE, "unet.attention=[false, true, false]"]
TINY = [*TINY_RUN, "compute.device=cpu", "micro_batch_size=2", "ema_decay=0.5", "loading.workers=0"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips and an image with captions."""
    folder = tmp_path_factory.mktemp("clips")
    times = np.arange(52) / 25
    for number in range(2):
        frames = [np.full((48, 64, 3), 40 + 80 * number + 2 * time, np.uint8) for time in range(len(times))]
        write_video_at(folder / f"{number}.mp4", times, frames)
    Image.new("RGB", (40, 40), (200, 30, 60)).save(folder / "2.png")
    for number, caption in enumerate(CAPTIONS):
        (folder / f"{number}.txt").write_text(caption)
    return folder


def autoencoder_recipe(clips: Path, output: Path, *overrides: str):
    words = [*TINY, TINY_VAE, f"output={output}", f"data={clips}", "data.size=32", *overrides]
    return load_recipe(RECIPES / "autoencoder-folder.yaml", words)


@pytest.fixture(scope="module")
def autoencoder(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("stages") / "autoencoder"
    run(autoencoder_recipe(clips, output), quiet=True)
    return output


def image_recipe(clips: Path, autoencoder: Path, output: Path, *overrides: str):
    words = [*TINY, *TINY_UNET, *TINY_TEXT, f"output={output}", f"autoencoder={autoencoder}"]
    words += [f"data={{source: {clips}, frames: 4}}", "sample_steps=2", "sample_prompts=[a dog]"]
    words = [word for word in words if not any(each.startswith(word.split("=")[0] + "=") for each in overrides)]
    words += overrides
    return load_recipe(RECIPES / "image-folder.yaml", words)


def test_an_autoencoder_learns_from_a_folder(clips: Path, autoencoder: Path) -> None:
    model = AutoencoderKL.from_pretrained(autoencoder / "model")
    assert model.config.sample_size == 32
    (source,) = json.loads((autoencoder / "data.json").read_text())["sources"]
    assert (source["clips"], source["images"], source["refused"]) == (2, 1, [])
    assert (autoencoder / "samples" / "step-00000004.png").exists()


def test_its_latents_have_the_spread_that_the_recipe_says(clips: Path, tmp_path: Path) -> None:
    recipe = autoencoder_recipe(clips, tmp_path / "run", "latent_std=0.5")
    stage = AutoencoderStage(recipe)
    stage.export(tmp_path)
    model = AutoencoderKL.from_pretrained(tmp_path / "model")
    with torch.no_grad():
        latents = torch.cat([model.encode(frames).latent_dist.mean for frames in stage._preview(512)])
    assert (latents.std() * model.config.scaling_factor).item() == pytest.approx(0.5, rel=1e-3)


def test_every_video_and_image_is_seen_once_an_epoch_and_at_another_time_each(clips: Path, tmp_path: Path) -> None:
    stage = AutoencoderStage(autoencoder_recipe(clips, tmp_path / "run", "batch_size=3"))
    batches = stage.batches(1)
    epochs = [next(batches) for _ in range(3)]
    batches.close()
    for epoch in epochs:
        assert sorted(Path(name).name for name in epoch.names()) == ["0.mp4", "1.mp4", "2.png"]
        assert epoch.frames.shape == (3, 3, 32, 32) and epoch.noise.shape == (3, 4, 8, 8)
    levels = [epoch.frames[[Path(name).name for name in epoch.names()].index("0.mp4")].mean() for epoch in epochs]
    assert len({round(float(level), 2) for level in levels}) > 1


def test_an_interrupted_run_ends_in_the_same_weights(clips: Path, tmp_path: Path) -> None:
    run(autoencoder_recipe(clips, tmp_path / "unbroken"), quiet=True)
    run(autoencoder_recipe(clips, tmp_path / "broken", "steps=2"), quiet=True)
    run(autoencoder_recipe(clips, tmp_path / "broken"), quiet=True)
    same_weights(tmp_path / "unbroken", tmp_path / "broken")


def test_two_processes_learn_what_one_learns(clips: Path, autoencoder: Path, tmp_path: Path) -> None:
    words = [*TINY, TINY_VAE, f"data={clips}", "data.size=32", "micro_batch_size=1", f"output={tmp_path}/two"]
    finish(train(str(RECIPES / "autoencoder-folder.yaml"), *words, processes=2))
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(autoencoder), rtol=1e-4)


def test_frames_need_no_captions(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(2):
        Image.new("RGB", (40, 40), (90 * number, 30, 60)).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    recipe = autoencoder_recipe(folder, tmp_path / "run")
    run(recipe, quiet=True)
    report = json.loads((tmp_path / "run" / "data.json").read_text())
    assert report["sources"][0]["images"] == 3
    assert [Path(each["name"]).name for each in report["replaced"]] == ["broken.png"]


def test_a_source_stands_for_its_settings() -> None:
    base = RECIPES / "sprites-autoencoder.yaml"
    assert load_recipe(base).data.sources == () and load_recipe(base, ["data=sprites"]).data.size == 64
    for words in (["data=clips"], ["data={source: clips}"], ["data=[clips]"], ["data={sources: clips}"]):
        data = load_recipe(base, words).data
        assert [each.source for each in data.sources] == ["clips"] and data.size == 256
    data = load_recipe(base, ["data=clips", "data.size=128", "data.crop=random"]).data
    assert data.size == 128 and data.sources[0].crop == "random"
    recipe = load_recipe(base, ["data=[{source: a, weight: 2}, b]"])
    assert [each.weight for each in recipe.data.sources] == [2, 1]
    with pytest.raises(ValueError, match=r"seed is of the sprites world"):
        load_recipe(base, ["data=clips", "data.seed=1"])
    with pytest.raises(ValueError, match=r"frames"):
        load_recipe(base, ["data={source: clips, frames: 4}"])


def test_the_resolved_recipe_reads_back(tmp_path: Path) -> None:
    for recipe in (
        load_recipe(RECIPES / "autoencoder-folder.yaml", ["data=[a, b]"]),
        load_recipe(RECIPES / "image-folder.yaml"),
    ):
        (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
        assert load_recipe(tmp_path / "recipe.yaml") == recipe


@pytest.mark.parametrize("data", ["nowhere", "empty"])
def test_data_that_is_not_there_is_refused_in_a_sentence(cli, tmp_path: Path, data: str) -> None:
    (tmp_path / "empty").mkdir()
    words = [*TINY, TINY_VAE, f"data={tmp_path / data}", f"output={tmp_path}/run"]
    for more in ([], ["--dry-run"]):
        code, _, err = cli("train", RECIPES / "autoencoder-folder.yaml", *words, *more)
        assert code != 0 and "Traceback" not in err and str(tmp_path / data) in err


def test_a_dry_run_counts_what_a_folder_offers(cli, clips: Path, autoencoder: Path, tmp_path: Path) -> None:
    words = [*TINY, TINY_VAE, f"data={clips}", "data.size=32", f"output={tmp_path}/run"]
    code, out, err = cli("train", RECIPES / "autoencoder-folder.yaml", *words, "--dry-run")
    assert code == 0 and "1.5  3 samples" in out, err
    words = [*TINY, *TINY_UNET, *TINY_TEXT, f"data={clips}", f"autoencoder={autoencoder}", f"output={tmp_path}/run"]
    code, out, err = cli("train", RECIPES / "image-folder.yaml", *words, "--dry-run")
    assert code == 0 and "1.5  3 samples" in out, err


def test_a_dry_run_needs_no_weights_of_a_pretrained_text_encoder(
    cli, clips: Path, autoencoder: Path, sd1_folder: Path, tmp_path: Path
) -> None:
    words = [*TINY, *TINY_UNET, f"data={clips}", f"autoencoder={autoencoder}", f"output={tmp_path}/run"]
    words += ["tokenizer=null", f"text_encoder={sd1_folder}", "train_text_encoder=false", "--dry-run"]
    code, out, err = cli("train", RECIPES / "image-folder.yaml", *words)
    encoder = DiffusionPipeline.from_pretrained(sd1_folder).text_encoder
    size = sum(parameter.numel() for parameter in encoder.parameters())
    assert code == 0 and re.search(rf"text_encoder +{size:,} +0$", out, flags=re.MULTILINE), err


def test_captions_are_those_of_all_sources(cli, clips: Path, model: Path, tmp_path: Path) -> None:
    code, _, err = cli("data", "encode", clips, "-o", tmp_path / "shards", "--model", model)
    assert code == 0, err
    folder, shards = (DataSettings(source=str(each)) for each in (clips, tmp_path / "shards"))
    assert sorted(training_captions([folder])) == sorted(training_captions([shards])) == sorted(CAPTIONS)
    assert len(list(training_captions([folder, shards]))) == 6


def test_words_of_captions_are_those_that_the_tokenizer_splits() -> None:
    words = caption_words(["A dog, the DOG!", "a café dog", "the end"], 100)
    assert words == ["dog", "a", "the", "!", ",", "cafe", "end"]
    assert caption_words(["b a", "b"], 1) == ["b"]
    tokenizer = build_word_tokenizer(words, 16)
    assert tokenizer.tokenize("The café, dog!") == ["the", "cafe", ",", "dog", "!"]


def test_an_image_model_knows_the_words_of_its_captions(clips: Path, autoencoder: Path, tmp_path: Path) -> None:
    run(image_recipe(clips, autoencoder, tmp_path / "image"), quiet=True)
    stock = DiffusionPipeline.from_pretrained(tmp_path / "image" / "model")
    assert isinstance(stock, LDMTextToImagePipeline)
    assert stock.tokenizer.tokenize("the dog runs") == ["the", "dog", "runs"]
    assert stock.bert.config.vocab_size == len(stock.tokenizer)
    assert LatentShiftPipeline.from_pretrained(tmp_path / "image" / "model").unet.config.cross_attention_dim == 16


def test_a_frozen_clip_is_exported_as_it_was(
    cli, clips: Path, autoencoder: Path, sd1_folder: Path, tmp_path: Path
) -> None:
    words = ["tokenizer=null", f"text_encoder={sd1_folder}", "train_text_encoder=false"]
    run(image_recipe(clips, autoencoder, tmp_path / "unbroken", *words), quiet=True)
    run(image_recipe(clips, autoencoder, tmp_path / "broken", *words, "steps=2"), quiet=True)
    run(image_recipe(clips, autoencoder, tmp_path / "broken", *words), quiet=True)
    same_weights(tmp_path / "unbroken", tmp_path / "broken")
    stock = DiffusionPipeline.from_pretrained(tmp_path / "broken" / "model")
    base = DiffusionPipeline.from_pretrained(sd1_folder)
    assert isinstance(stock, StableDiffusionPipeline)
    before, after = base.text_encoder.state_dict(), stock.text_encoder.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    assert stock.tokenizer.get_vocab() == base.tokenizer.get_vocab()
    code, _, err = cli("data", "encode", clips, "-o", tmp_path / "shards", "--model", tmp_path / "broken" / "model")
    assert code == 0, err
    encoded = image_recipe(clips, autoencoder, tmp_path / "encoded", *words, f"data={{source: {tmp_path}/shards}}")
    run(encoded, quiet=True)  # its text is encoded already, and the encoder loaded for samples alone
    again = DiffusionPipeline.from_pretrained(tmp_path / "encoded" / "model").text_encoder.state_dict()
    assert all(torch.equal(before[key], again[key]) for key in before)
    video = LatentShiftPipeline.from_pretrained(tmp_path / "broken" / "model")
    assert len(video("a dog", num_frames=2, num_inference_steps=2, output_type="np").frames[0]) == 2


@pytest.mark.parametrize("whole", [True, False])
def test_a_bert_is_trained(clips: Path, autoencoder: Path, tmp_path: Path, whole: bool) -> None:
    folder = tmp_path / "bert"
    tokenizer = build_word_tokenizer(["dog", "cat"], 16)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    bert = BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=16, **sizes))
    weights = bert.state_dict()
    if not whole:
        del weights["encoder.layer.0.output.dense.weight"]
    bert.save_pretrained(folder, state_dict=dict(weights))
    tokenizer.save_pretrained(folder)
    recipe = image_recipe(clips, autoencoder, tmp_path / "image", "tokenizer=null", f"text_encoder={folder}")
    if not whole:
        with pytest.raises(ValueError, match=r"is incomplete: encoder\.layer\.0\.output\.dense\.weight is missing"):
            run(recipe, quiet=True)
        return
    run(recipe, quiet=True)
    stock = DiffusionPipeline.from_pretrained(tmp_path / "image" / "model")
    assert isinstance(stock.bert, BertModel) and stock.bert.config.hidden_dropout_prob == 0
    name = "encoder.layer.0.output.dense.weight"
    assert not torch.equal(stock.bert.state_dict()[name], weights[name])
    assert LatentShiftPipeline.from_pretrained(tmp_path / "image" / "model").text_encoders.length == 16


def test_a_pretrained_tokenizer_of_a_new_text_encoder(
    clips: Path, autoencoder: Path, sd1_folder: Path, tmp_path: Path
) -> None:
    recipe = image_recipe(clips, autoencoder, tmp_path / "image", f"tokenizer={sd1_folder}")
    encoder, tokenizer = build_text_model(recipe.text, recipe.tokenizer, recipe.text_encoder, recipe.data)
    base = DiffusionPipeline.from_pretrained(sd1_folder)
    assert tokenizer.get_vocab() == base.tokenizer.get_vocab()
    assert encoder.config.vocab_size == len(base.tokenizer)


def test_what_cannot_be_a_text_model_is_refused(
    cli, clips: Path, autoencoder: Path, sdxl_folder: Path, model: Path, tmp_path: Path
) -> None:
    words = [*TINY, *TINY_UNET, *TINY_TEXT, f"output={tmp_path}/run", f"autoencoder={autoencoder}", f"data={clips}"]
    for changed, message in (
        (["text_encoder=gone"], "text_encoder brings its own tokenizer, and tokenizer is set"),
        (["tokenizer=null", "text_encoder=gone"], "there is no folder gone"),
        (["tokenizer=gone"], "there is no folder gone"),
        (["tokenizer=null", "train_text_encoder=false"], "a new text encoder knows nothing; set text_encoder"),
        (["tokenizer=null", f"text_encoder={sdxl_folder}"], "has two text encoders"),
        (["tokenizer=null", f"text_encoder={model}/unet"], "a CLIP, BERT or LDM-BERT is needed"),
        ([f"tokenizer={model}/unet"], "has no tokenizer that can be read"),
        (["tokenizer=sprites"], "words that the sprites' vocabulary does not know (dog, the, asleep, cat, "),
    ):
        code, _, err = cli("train", RECIPES / "image-folder.yaml", *words, *changed)
        assert code != 0 and message in err and "Traceback" not in err, (changed, err)
