"""SDXL: two text encoders, a pooled embedding and sizes, through the same pipeline and the same training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import load_file

from latentshift import LatentShiftPipeline
from latentshift.caption_embedding import CaptionEmbedding
from latentshift.diffusion.condition import TextCondition
from latentshift.diffusion.samplers import make_sampler
from latentshift.models.denoiser import denoise
from latentshift.models.encoders import caption_encoder
from latentshift.training.recipe_file import load_recipe
from latentshift.training.run import run

CPU = torch.device("cpu")


def load(folder: Path, **settings: object) -> LatentShiftPipeline:
    pipeline = LatentShiftPipeline.from_pretrained(folder, **settings)
    pipeline.scheduler = make_sampler("ddim", pipeline.scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("negative", [None, "", "black background"])
@pytest.mark.parametrize(
    "sizes", [{}, {"original_size": (40, 32), "crops_coords_top_left": (3, 1), "target_size": (8, 9)}]
)
def test_without_the_shift_a_frame_is_the_stock_pipelines_image(
    sdxl_folder: Path, negative: str | None, sizes: dict
) -> None:
    ours = load(sdxl_folder, shift=None)
    stock = StableDiffusionXLPipeline.from_pretrained(sdxl_folder, add_watermarker=False)
    stock.scheduler = make_sampler("ddim", ours.scheduler)
    stock.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    options = {"num_inference_steps": 3, "guidance_scale": 5.0, "negative_prompt": negative, "output_type": "latent"}
    image = stock("red star", latents=noise, height=16, width=16, **options, **sizes).images
    frame = ours("red star", latents=noise[:, None], num_frames=1, **options, **sizes).frames
    torch.testing.assert_close(frame[:, 0], image)


def test_two_encoders_give_tokens_and_a_pooled_embedding(sdxl_folder: Path) -> None:
    pipeline = load(sdxl_folder)
    text = pipeline.text_encoders.encode(["red star", None, ""], CPU)
    assert text.tokens.shape == (3, 12, 32) and text.sizes is None
    assert text.pooled is not None and text.pooled.shape == (3, pipeline.text_encoders.pooled_width)
    ids = pipeline.tokenizer(["red star"], padding="max_length", max_length=12, return_tensors="pt").input_ids
    with torch.no_grad():
        first = pipeline.text_encoder(ids, output_hidden_states=True)
        second = pipeline.text_encoder_2(ids, output_hidden_states=True)
    assert torch.equal(text.tokens[0], torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)[0])
    assert torch.equal(text.pooled[0], second.text_embeds[0])
    for each in (text.tokens, text.pooled):
        assert not each[1].any() and each[2].any()  # no sentence is not the empty one


def test_encoded_clips_keep_the_pooled_embedding_in_one_more_row(sdxl_folder: Path) -> None:
    text_encoders = load(sdxl_folder).text_encoders
    encode, text = caption_encoder(text_encoders, CPU), text_encoders.encode(["red star", None], CPU)
    rows = [encode(caption).pack() for caption in ("red star", "")]
    packed = torch.from_numpy(np.stack(rows))
    assert packed.shape == (2, 12 + 1, 32)
    assert torch.equal(packed[:, :12], text.tokens) and torch.equal(packed[:, 12, :16], text.pooled)
    assert not packed[:, 12, 16:].any()
    unpacked = TextCondition.from_embeddings([CaptionEmbedding.unpack(row, text_encoders.pooled_width) for row in rows])
    assert torch.equal(unpacked.tokens, text.tokens) and torch.equal(unpacked.pooled, text.pooled)


def test_conditions_that_are_missing_are_named(sdxl_folder: Path) -> None:
    pipeline = load(sdxl_folder)
    text = pipeline.text_encoders.encode(["red star"], CPU)
    with pytest.raises(ValueError, match="needs a pooled embedding and sizes beside the tokens"):
        denoise(pipeline.unet, torch.randn(1, 2, 4, 8, 8), torch.tensor([1]), text)


def test_a_saved_folder_is_whole(sdxl_folder: Path, tmp_path: Path) -> None:
    pipeline = load(sdxl_folder)
    noise = torch.randn(1, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    options = {"num_inference_steps": 2, "num_frames": 3, "output_type": "latent", "latents": noise}
    video = pipeline("red star", **options).frames
    pipeline.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert again.config.force_zeros_for_empty_prompt and torch.equal(again("red star", **options).frames, video)
    assert list(UNet2DConditionModel.from_pretrained(tmp_path / "unet").state_dict()) == list(
        pipeline.unet.state_dict()
    )
    together = pipeline(["red star", "circling"], **{**options, "latents": noise.expand(2, -1, -1, -1, -1)}).frames
    torch.testing.assert_close(together[:1], video)


def test_sizes_are_refused_by_models_that_know_none(sd1_folder: Path) -> None:
    with pytest.raises(ValueError, match="are for SDXL only"):
        load(sd1_folder)("red", original_size=(8, 8))


@pytest.mark.parametrize("trained", [False, True])
def test_it_is_trained_by_the_same_recipe(sdxl_folder: Path, tmp_path: Path, trained: bool) -> None:
    recipe = Path(__file__).parent.parent / "recipes" / "finetune-folder.yaml"
    words = [
        f"output={tmp_path}/run",
        f"model={sdxl_folder}",
        "data={source: sprites, options: {clips: 4}}",
        "steps=2",
        "batch_size=2",
        "image_share=0.5",
        f"train_text_encoder={str(trained).lower()}",
        "optimizer.warmup_steps=0",
        "optimizer.decay_steps=0",
        "num_frames=4",
        "sample_steps=2",
        "sample_prompts=[red]",
        "trackers=[]",
        "weights=float32",
        "compute={device: cpu}",
    ]
    run(load_recipe(recipe, words), quiet=True)
    tuned = LatentShiftPipeline.from_pretrained(tmp_path / "run" / "model")
    before = load_file(sdxl_folder / "unet" / "diffusion_pytorch_model.safetensors")
    after = tuned.unet.state_dict()
    moved = [name for name, value in before.items() if not torch.equal(value, after[name].float())]
    assert any("add_embedding" in name for name in moved) and any("attn2" in name for name in moved)
    encoder = load_file(sdxl_folder / "text_encoder_2" / "model.safetensors")
    same = [torch.equal(value, tuned.text_encoder_2.state_dict()[name].float()) for name, value in encoder.items()]
    assert all(same) is not trained
