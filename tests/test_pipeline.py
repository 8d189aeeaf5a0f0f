"""The pipeline on tiny real models: what goes in, what comes out, and what does not depend on what."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DConditionModel
from diffusers.callbacks import PipelineCallback, SDCFGCutoffCallback
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from safetensors.torch import load_file, save_file

from latentshift import LatentShiftPipeline, ShiftConfig
from latentshift.diffusion.condition import TextCondition
from latentshift.diffusion.noise import paper_scheduler
from latentshift.diffusion.sampler_names import default_steps
from latentshift.diffusion.samplers import make_sampler
from latentshift.diffusion.sampling import video_generators
from latentshift.frame_context import frame_context, frames_independent
from latentshift.models.denoiser import denoise, share_text
from latentshift.models.latent_vdm import TemporalAttention
from latentshift.training.models.build import prepare_video_model
from latentshift.training.recipe_file import load_recipe
from tiny_models import ONE_LEVEL, base_scheduler, tiny_bert, tiny_tokenizer, tiny_unet, tiny_vae
from tiny_pipelines import seeds

SHIFT = ShiftConfig().to_dict()
RECIPE = Path(__file__).parent.parent / "recipes" / "finetune-folder.yaml"
CPU = torch.device("cpu")


def make(shift: dict | None = SHIFT, scheduler: object = None, **parts: object) -> LatentShiftPipeline:
    default = {"vae": tiny_vae(), "text_encoder": tiny_bert(), "tokenizer": tiny_tokenizer(), "unet": tiny_unet()}
    pipeline = LatentShiftPipeline(
        **{**default, **parts}, scheduler=scheduler or paper_scheduler(), shift=shift, num_frames=3, fps=8
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def pipeline() -> LatentShiftPipeline:
    return make()


def test_output_types_show_the_same_video(pipeline: LatentShiftPipeline) -> None:
    def run(kind: str):
        return pipeline(
            ["red star", "on"], num_inference_steps=3, generator=seeds(0, 1), output_type=kind, num_frames=4
        ).frames

    latents = run("latent")
    assert latents.shape == (2, 4, 4, 8, 8)
    tensor, array, images = run("pt"), run("np"), run("pil")
    assert tensor.shape == (2, 4, 3, 16, 16) and tensor.min() >= 0 and tensor.max() <= 1
    np.testing.assert_allclose(array, tensor.permute(0, 1, 3, 4, 2).numpy())
    assert len(images) == 2 and len(images[0]) == 4
    pixels = np.stack([np.stack([np.asarray(image) for image in video]) for video in images])
    assert np.abs(pixels - array * 255).max() <= 0.5 + 1e-3
    torch.testing.assert_close(pipeline.decode(latents, decode_chunk_size=3), tensor * 2 - 1, atol=1e-5, rtol=1e-4)
    assert pipeline("on", num_inference_steps=2, return_dict=False)[0][0][0].size == (16, 16)


@pytest.mark.parametrize("scheduler", ["ddpm", "ddim", "euler-a"])
@pytest.mark.parametrize("frames", [1, 3])
def test_a_video_does_not_depend_on_its_company(scheduler: str, frames: int) -> None:
    pipeline = make(scheduler=make_sampler(scheduler, paper_scheduler()))
    options = {"num_inference_steps": 4, "output_type": "pt", "num_frames": frames}
    prompts = ["red star", "a circling star", "on black"]
    together = pipeline(prompts, generator=seeds(5, 6, 7), **options).frames
    for k, prompt in enumerate(prompts):
        alone = pipeline(prompt, generator=seeds(5 + k)[0], **options).frames
        assert torch.equal(alone[0], together[k])


def test_one_generator_for_several_videos_and_its_first_ones(pipeline: LatentShiftPipeline) -> None:
    options = {"num_inference_steps": 2, "output_type": "latent"}
    two = pipeline("red", num_videos_per_prompt=2, generator=seeds(3)[0], **options).frames
    three = pipeline("red", num_videos_per_prompt=3, generator=seeds(3)[0], **options).frames
    assert torch.equal(two, three[:2]) and not torch.equal(two[0], two[1])
    assert torch.equal(two[:1], pipeline("red", generator=seeds(3)[0], **options).frames)
    once = seeds(3)[0]
    assert not torch.equal(*(pipeline("red", generator=once, **options).frames for _ in range(2)))
    with pytest.raises(ValueError, match="2 generators were given for 3 videos"):
        video_generators(seeds(0, 1), 3)
    torch.manual_seed(0)
    fresh = video_generators(None, 2)
    assert fresh[0].initial_seed() != fresh[1].initial_seed()


def test_guidance_is_the_formula(pipeline: LatentShiftPipeline) -> None:
    """One step from the same noise: n + s (p - n), on whole videos."""
    options = {"num_inference_steps": 1, "output_type": "latent"}

    def prediction(scale: float, **more: object) -> torch.Tensor:
        noise = torch.randn(1, 3, 4, 8, 8, generator=seeds(0)[0])
        ddim = make(scheduler=make_sampler("ddim", paper_scheduler()))
        return ddim("red star", guidance_scale=scale, latents=noise, **options, **more).frames

    # DDIM's step is affine in the prediction, so the formula holds for the latents as well.
    towards, half, far = prediction(1.0), prediction(0.0), prediction(4.0)
    torch.testing.assert_close(far, half + 4.0 * (towards - half), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(prediction(3.0, negative_prompt="red star"), towards, atol=1e-4, rtol=1e-4)


def test_text_is_encoded_once_a_sentence() -> None:
    pipeline = make()
    calls: list[tuple[int, ...]] = []
    pipeline.text_encoder.register_forward_hook(lambda module, inputs, output: calls.append(tuple(inputs[0].shape)))
    pipeline(["red star", "on black"], num_frames=3, num_videos_per_prompt=2, num_inference_steps=2)
    assert calls == [(1, 12)] * 3  # two prompts and one empty sentence


def test_a_callback_sees_and_replaces_the_latents(pipeline: LatentShiftPipeline) -> None:
    seen: list[tuple[int, int]] = []

    def zero(pipe: object, step: int, timestep: torch.Tensor, tensors: dict) -> dict:
        seen.append((step, int(timestep)))
        return {"latents": torch.zeros_like(tensors["latents"])}

    frames = pipeline("red", num_inference_steps=3, output_type="latent", callback_on_step_end=zero).frames
    assert seen == [(0, 999), (1, 500), (2, 0)]
    assert not frames.any()


def test_diffusers_own_callbacks_serve_or_are_refused_by_name(pipeline: LatentShiftPipeline) -> None:
    class Blank(PipelineCallback):
        tensor_inputs = ["latents"]  # noqa: RUF012

        def callback_fn(self, pipe, step: int, timestep: torch.Tensor, tensors: dict) -> dict:
            last = step == pipe.num_timesteps - 1
            return {"latents": tensors["latents"] * 0} if last else tensors

    options = {"num_inference_steps": 3, "output_type": "latent"}
    assert not pipeline("red", callback_on_step_end=Blank(), **options).frames.any()
    with pytest.raises(ValueError, match="a callback can have the tensors latents, not prompt_embeds"):
        pipeline("red", callback_on_step_end=SDCFGCutoffCallback(cutoff_step_ratio=0.5), **options)


def test_a_callback_changes_weights_in_place_and_does_not_replace_the_unet() -> None:
    pipe, other = make(), make().unet
    seen: list[int] = []

    def zero_output(pipe: LatentShiftPipeline, step: int, timestep: torch.Tensor, tensors: dict) -> None:
        torch.nn.init.zeros_(pipe.unet.conv_out.weight)
        torch.nn.init.zeros_(pipe.unet.conv_out.bias)

    def replace(pipe: LatentShiftPipeline, step: int, timestep: torch.Tensor, tensors: dict) -> None:
        seen.append(step)
        pipe.unet = other

    options = {"num_inference_steps": 3, "output_type": "latent", "num_frames": 2}
    plain = pipe("red", generator=seeds(0), **options).frames
    with pytest.raises(ValueError, match=r"a callback has replaced pipe\.unet"):
        pipe("red", callback_on_step_end=replace, **options)
    assert seen == [0]
    pipe = make()
    changed = pipe("red", callback_on_step_end=zero_output, generator=seeds(0), **options).frames
    assert not torch.allclose(changed, plain)


def test_what_a_callback_can_not_do_is_refused(pipeline: LatentShiftPipeline) -> None:
    def guide_less(pipe: LatentShiftPipeline, *given: object) -> None:
        pipe._guidance_scale = 0.0

    before = pipeline.scheduler

    def other_scheduler(pipe: LatentShiftPipeline, *given: object) -> None:
        pipe.scheduler = DDIMScheduler()

    for callback, words in (
        (guide_less, "give guidance_interval"),
        (other_scheduler, r"a callback has replaced pipe\.scheduler"),
        (lambda *given: torch.zeros(2), "a callback must return a dict of tensors by name, .* not a Tensor"),
        (lambda *given: {"latents": torch.zeros(1, 2, 4, 1, 1)}, r"latents of the shape \(1, 2, 4, 8, 8\), not"),
        (lambda *given: {"latents": 3}, "not a int"),
        (lambda *given: {"prompt_embeds": torch.zeros(2)}, "a callback can replace latents, not prompt_embeds"),
    ):
        with pytest.raises(ValueError, match=words):
            pipeline("red", callback_on_step_end=callback, num_frames=2, num_inference_steps=2)
        pipeline.scheduler = before


def test_a_pipeline_of_parts_has_the_papers_shift_and_none_stays_none(tmp_path) -> None:
    parts = {"vae": tiny_vae(), "text_encoder": tiny_bert(), "tokenizer": tiny_tokenizer(), "unet": tiny_unet()}
    pipeline = LatentShiftPipeline(**parts, scheduler=paper_scheduler())
    assert pipeline.config.shift == SHIFT and frame_context(pipeline.unet) is not None
    pipeline.set_shift(None)
    pipeline.save_pretrained(tmp_path)
    again = LatentShiftPipeline.from_pretrained(tmp_path)
    assert again.config.shift is None and frame_context(again.unet) is None


def test_a_model_says_how_many_steps_it_takes_by_itself(pipeline: LatentShiftPipeline, tmp_path) -> None:
    assert pipeline.config.num_inference_steps == 100  # the paper's
    quick = LatentShiftPipeline.from_pipe(pipeline, num_inference_steps=3)
    quick.save_pretrained(tmp_path / "quick")
    again = LatentShiftPipeline.from_pretrained(tmp_path / "quick")
    for each in (again, LatentShiftPipeline.from_pipe(again)):
        each.set_progress_bar_config(disable=True)
        video = each("red", generator=seeds(1), output_type="latent").frames
        assert each.num_timesteps == 3
        same = pipeline("red", num_inference_steps=3, generator=seeds(1), output_type="latent").frames
        assert torch.equal(video, same)
    assert [default_steps(sampler, 3) for sampler in (None, "ddim")] == [3, 100]  # they are of the model's sampler
    recipe = load_recipe(RECIPE, [f"model={tmp_path / 'quick'}", "data={source: sprites}", "compute={device: cpu}"])
    prepare_video_model(recipe, again)
    assert again.config.num_inference_steps == 100  # which is DDPM now
    with pytest.raises(ValueError, match="num_inference_steps must be a whole number"):
        LatentShiftPipeline.from_pipe(pipeline, num_inference_steps=0)


def test_the_baseline_goes_through_the_same_pipeline(tmp_path) -> None:
    pipeline = make(scheduler=make_sampler("ddim", paper_scheduler()))
    options = {"num_inference_steps": 2, "num_frames": 3, "output_type": "latent"}
    noise = torch.randn(1, 3, 4, 8, 8, generator=seeds(0)[0])

    def run(pipeline: LatentShiftPipeline) -> torch.Tensor:
        return pipeline("red", latents=noise, **options).frames

    shifted = run(pipeline)
    pipeline.set_method("none")
    images = run(pipeline)
    pipeline.set_method("latent-vdm")
    assert pipeline.method == "latent-vdm" and torch.equal(run(pipeline), images)  # it begins as the image model
    with torch.no_grad():
        for parameter in pipeline.temporal.parameters():
            parameter.normal_(std=0.3, generator=seeds(1)[0])
    video = run(pipeline)
    assert not torch.allclose(video, images)
    pipeline.save_pretrained(tmp_path)
    again = LatentShiftPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    again.scheduler = pipeline.scheduler
    assert again.method == "latent-vdm" and torch.equal(run(again), video)
    with frames_independent(again.unet):
        assert torch.equal(run(again), images)
    UNet2DConditionModel.from_pretrained(tmp_path / "unet")
    pipeline.set_method("latent-shift")
    assert pipeline.temporal is None and torch.equal(run(pipeline), shifted)
    with pytest.raises(ValueError, match="unknown method 'motion'"):
        pipeline.set_method("motion")
    other = TemporalAttention(widths=[8], heads=[2])
    with pytest.raises(ValueError, match="of another U-Net"):
        again.set_temporal(other)
    assert torch.equal(run(again), video)  # a refusal changes nothing
    weights = tmp_path / "temporal" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    save_file(dict(list(tensors.items())[1:]), weights)
    with pytest.raises(ValueError, match="incomplete"):
        LatentShiftPipeline.from_pretrained(tmp_path)


def test_a_text_that_frames_share_is_a_text_repeated_for_each_frame(ldm_folder) -> None:
    pipeline = LatentShiftPipeline.from_pretrained(ldm_folder)
    unet = pipeline.unet.double()
    latents = torch.randn(2, 3, unet.config.in_channels, 8, 8, dtype=torch.float64)
    text = TextCondition(torch.randn(2, 5, unet.config.cross_attention_dim, dtype=torch.float64))
    steps = torch.tensor([10, 900])
    shared = denoise(unet, latents, steps, text)
    unet.set_attn_processor(AttnProcessor2_0())
    torch.testing.assert_close(denoise(unet, latents, steps, text), shared)
    chosen = AttnProcessor()
    unet.set_attn_processor(chosen)
    share_text(unet)
    assert all(processor is chosen for processor in unet.attn_processors.values())  # someone's choice stays
    torch.testing.assert_close(denoise(unet, latents, steps, text), shared)


@pytest.mark.parametrize("fixture", ["ldm_folder", "sd1_folder", "sd2_folder"])
def test_a_stock_image_pipeline_becomes_a_video_pipeline(fixture: str, request, tmp_path) -> None:
    folder = request.getfixturevalue(fixture)
    pipeline = LatentShiftPipeline.from_pretrained(folder, num_frames=2)
    pipeline.set_progress_bar_config(disable=True)
    assert type(pipeline.scheduler) is DDPMScheduler
    assert pipeline.scheduler.config.prediction_type == ("v_prediction" if fixture == "sd2_folder" else "epsilon")
    assert pipeline.config.shift == SHIFT
    options = {"num_inference_steps": 2, "generator": None, "output_type": "pt"}
    first = pipeline("red star", **{**options, "generator": seeds(0)[0]}).frames
    assert first.shape == (1, 2, 3, 16, 16)

    pipeline.save_pretrained(tmp_path / "saved")
    assert not list((tmp_path / "saved").rglob("*.bin"))
    again = LatentShiftPipeline.from_pretrained(tmp_path / "saved")
    again.set_progress_bar_config(disable=True)
    assert again.config.num_frames == 2 and frame_context(again.unet) is not None
    assert torch.equal(again("red star", **{**options, "generator": seeds(0)[0]}).frames, first)

    stock, report = UNet2DConditionModel.from_pretrained(tmp_path / "saved" / "unet", output_loading_info=True)
    assert type(stock) is UNet2DConditionModel
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    index = json.loads((tmp_path / "saved" / "model_index.json").read_text())
    assert index["unet"] == ["diffusers", "UNet2DConditionModel"] and index["shift"] == SHIFT


def test_the_shift_can_be_changed_and_taken_out(pipeline: LatentShiftPipeline) -> None:
    pipeline = make()
    options = {"num_inference_steps": 2, "output_type": "latent"}
    noise = torch.randn(1, 3, 4, 8, 8, generator=seeds(0)[0])

    def run() -> torch.Tensor:
        ddim = make_sampler("ddim", pipeline.scheduler)
        pipeline.scheduler = ddim
        return pipeline("red", latents=noise, **options).frames

    with_zeros = run()
    pipeline.set_shift({"padding": "circular"})
    circular = run()
    pipeline.set_shift(None)
    off = run()
    assert not torch.allclose(with_zeros, circular) and not torch.allclose(with_zeros, off)
    assert pipeline.config.shift is None
    # Without the shift the frames are images that know nothing of each other.
    for k in range(3):
        alone = pipeline("red", latents=noise[:, k : k + 1], num_frames=1, **options).frames
        torch.testing.assert_close(alone[0, 0], off[0, k], atol=1e-4, rtol=1e-4)
    pipeline.set_shift(SHIFT)
    assert torch.equal(run(), with_zeros)
    refused = (({"fold": 500}, "too few for fold 500"), ({"pad": 1}, "and no pad"), ("circular", "a dict with"))
    for wrong, message in refused:
        with pytest.raises(ValueError, match=message):
            pipeline.set_shift(wrong)
    assert torch.equal(run(), with_zeros)  # a refusal changes nothing


def test_a_compiled_unet_can_be_shifted_and_unshifted() -> None:
    unet = tiny_unet(**ONE_LEVEL, mid_block_type=None)  # the compiler's time is that of its blocks
    pipeline = make(scheduler=make_sampler("ddim", paper_scheduler()), unet=unet)
    options = {"num_inference_steps": 2, "output_type": "latent"}
    noise = torch.randn(1, 3, 4, 8, 8, generator=seeds(0)[0])

    def run() -> torch.Tensor:
        return pipeline("red", latents=noise, **options).frames

    settings = ({"padding": "circular"}, None, SHIFT)
    eager = [(pipeline.set_shift(each), run())[1] for each in settings]
    pipeline.unet = torch.compile(pipeline.unet, backend="eager")
    for each, expected in zip(settings, eager, strict=True):
        pipeline.set_shift(each)
        torch.testing.assert_close(run(), expected)


@pytest.mark.parametrize("sampler", ["dpm++", "unipc"])
def test_solvers_take_one_step_less_than_there_are_timesteps(sampler: str) -> None:
    pipeline = make(scheduler=make_sampler(sampler, paper_scheduler()))
    with pytest.raises(ValueError, match="between 2 and 999"):
        pipeline("red", num_inference_steps=1000)
    pipeline.scheduler.set_timesteps(999)
    assert pipeline.scheduler.timesteps.unique().numel() == 999


BAD = [
    ({"prompt": []}, "prompt must be"),
    ({"prompt": None}, "prompt must be"),
    ({"decode_chunk_size": 0}, "decode_chunk_size must be 1 or more"),
    ({"num_frames": 0}, "num_frames must be 1 or more"),
    ({"num_frames": 10**7}, "num_frames must be 100,000 or less, not 10,000,000"),
    ({"num_videos_per_prompt": 0}, "num_videos_per_prompt must be"),
    ({"num_inference_steps": 0}, "between 2 and 1000"),
    ({"height": 13}, "multiples of 2"),
    ({"guidance_scale": float("nan")}, "guidance_scale must be a finite number"),
    ({"guidance_scale": -1.0}, "guidance_scale must be a finite number"),
    ({"output_type": "mp4"}, "output_type must be one of"),
    ({"negative_prompt": ["a", "b"]}, "negative_prompt has 2 sentences for 1"),
    ({"latents": torch.zeros(1, 3, 4, 4, 4)}, "latents must have the shape"),
    ({"callback_on_step_end_tensor_inputs": ["noise"]}, "can have the tensors latents, not noise"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_arguments_that_do_not_hold(pipeline: LatentShiftPipeline, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pipeline(**{"prompt": "red", "num_inference_steps": 2, **arguments})


def test_a_scheduler_that_is_asked_for_stays(ldm_folder) -> None:
    euler = make_sampler("euler", base_scheduler())
    assert LatentShiftPipeline.from_pretrained(ldm_folder, scheduler=euler).scheduler is euler


def _rename(file: Path, former: dict[str, str]) -> None:
    tensors = load_file(file)
    renamed = {
        ".".join(former.get(part, part) for part in key.replace("to_out.0", "to_out").split(".")): value
        for key, value in tensors.items()
    }
    save_file(renamed, file, metadata={"format": "pt"})


def test_attention_under_the_names_of_older_files_is_read(sd1_folder, tmp_path) -> None:
    shutil.copytree(sd1_folder, tmp_path / "old")
    file = tmp_path / "old" / "vae" / "diffusion_pytorch_model.safetensors"
    _rename(file, {"to_q": "query", "to_k": "key", "to_v": "value", "to_out": "proj_attn"})
    assert any(key.endswith("attentions.0.proj_attn.weight") for key in load_file(file))
    now, then = (LatentShiftPipeline.from_pretrained(folder).vae for folder in (sd1_folder, tmp_path / "old"))
    assert all(torch.equal(value, now.state_dict()[key]) for key, value in then.state_dict().items())


@pytest.mark.parametrize("whole", [True, False])
def test_a_hub_id_is_checked_like_a_folder(sd1_folder, tmp_path, whole: bool) -> None:
    snapshot = tmp_path / "models--someone--tiny" / "snapshots" / "0123"
    shutil.copytree(sd1_folder, snapshot)
    (tmp_path / "models--someone--tiny" / "refs").mkdir()
    (tmp_path / "models--someone--tiny" / "refs" / "main").write_text("0123")
    words = {"cache_dir": tmp_path, "local_files_only": True}
    if whole:
        assert frame_context(LatentShiftPipeline.from_pretrained("someone/tiny", **words).unet) is not None
        return
    file = snapshot / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    del tensors["conv_in.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"are incomplete: conv_in\.weight is missing"):
        LatentShiftPipeline.from_pretrained("someone/tiny", **words)


def test_folders_that_cannot_be_loaded(tmp_path, ldm_folder) -> None:
    with pytest.raises(ValueError, match=r"there is no folder .*nothing, and no model of that name"):
        LatentShiftPipeline.from_pretrained(tmp_path / "nothing", local_files_only=True)
    with pytest.raises(ValueError, match=r"holds no diffusers pipeline: it has no model_index.json"):
        LatentShiftPipeline.from_pretrained(tmp_path)
    (tmp_path / "piped").mkdir()
    os.mkfifo(tmp_path / "piped" / "model_index.json")
    with pytest.raises(
        ValueError, match=r"no diffusers pipeline: \S+model_index.json is a pipe or device, and no file"
    ):
        LatentShiftPipeline.from_pretrained(tmp_path / "piped")
    foreign = tmp_path / "foreign"
    diffusers.DDPMPipeline(unet=diffusers.UNet2DModel(block_out_channels=(4, 4), norm_num_groups=2, layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2), scheduler=base_scheduler()
    ).save_pretrained(foreign)  # fmt: skip
    with pytest.raises(ValueError, match="holds a DDPMPipeline"):
        LatentShiftPipeline.from_pretrained(foreign)
    with pytest.raises(ValueError, match="it can't be reached from here, and the model was not downloaded before"):
        LatentShiftPipeline.from_pretrained("someone/something")
    shutil.copytree(ldm_folder, tmp_path / "wordless")
    for file in (tmp_path / "wordless" / "tokenizer").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="wordless/tokenizer has no words: its files are missing or damaged"):
        LatentShiftPipeline.from_pretrained(tmp_path / "wordless")


def test_the_noise_of_a_seed_does_not_depend_on_the_dtype() -> None:
    """In bfloat16 the video is the float32 one within the U-Net's rounding: other noise would give another video."""
    options = {"num_inference_steps": 3, "output_type": "latent"}
    full = make()("red star", generator=seeds(0)[0], **options).frames
    half = make().to(torch.bfloat16)("red star", generator=seeds(0)[0], **options).frames
    assert half.dtype == torch.float32
    assert (half - full).std() < 0.1 * full.std()
