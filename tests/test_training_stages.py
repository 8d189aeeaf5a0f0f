"""The three stages end to end on tiny models: what each learns, from which batches, and what it exports."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file

from latentshift import LatentShiftPipeline, ShiftConfig
from latentshift.data.sample_order import rng_for
from latentshift.data.sprites import Sprites, held_out_triples
from latentshift.diffusion.condition import TextCondition
from latentshift.models.autoencoder import sample_moments
from latentshift.models.denoiser import compile_for_training, denoise
from latentshift.settings import Padding
from latentshift.shift import install
from latentshift.training.checkpoints.paths import list_checkpoints
from latentshift.training.data.video_batches import clips_until, video_batches
from latentshift.training.distributed import make_accelerator
from latentshift.training.loop import fit
from latentshift.training.optimizer import learning_rate
from latentshift.training.preflight import lost_shift
from latentshift.training.recipe_file import load_recipe
from latentshift.training.recipes.settings import OptimizerSettings
from latentshift.training.run import run
from latentshift.training.stages.autoencoder import AutoencoderStage
from latentshift.training.stages.image import ImageStage
from latentshift.training.stages.video import VideoStage
from tiny_models import tiny_unet, tiny_vae
from tiny_runs import CPU, batch_of, same_weights, tiny


def test_the_three_stages_end_in_a_video_pipeline(runs: Path) -> None:
    pipeline = LatentShiftPipeline.from_pretrained(runs / "video" / "model")
    pipeline.set_progress_bar_config(disable=True)
    frames = pipeline("a red star circling on a navy background", num_inference_steps=2, output_type="np").frames
    assert frames.shape == (1, 4, 32, 32, 3) and np.isfinite(frames).all()
    for stage in ("autoencoder", "image", "video"):
        output = runs / stage
        lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == [1, 2, 3, 4]
        assert (output / "samples" / "step-00000004.png").exists()
        assert load_recipe(output / "recipe.yaml") == tiny(stage, runs)


def test_the_image_stage_exports_a_stock_pipeline(runs: Path) -> None:
    from diffusers import DiffusionPipeline

    stock = DiffusionPipeline.from_pretrained(runs / "image" / "model")
    assert type(stock).__name__ == "LDMTextToImagePipeline"


def test_the_image_stage_trains_every_channel_of_what_it_exports(runs: Path) -> None:
    """With the shift a single frame would leave two thirds of what each block's first convolution reads at random."""
    first = ImageStage(tiny("image", runs), CPU).pipeline.unet.state_dict()
    exported = load_file(runs / "image" / "model" / "unet" / "diffusion_pytorch_model.safetensors")
    blocks = [name for name in exported if name.endswith("conv1.weight")]
    assert blocks
    for name in blocks:
        assert (exported[name] - first[name]).abs().amax((0, 2, 3)).min() > 0


def test_the_video_stage_trains_the_unet_alone(runs: Path) -> None:
    def weights(stage: str, part: str) -> dict[str, torch.Tensor]:
        (file,) = (runs / stage / "model" / part).glob("*.safetensors")
        return load_file(file)

    def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:  # the video model is float16
        return one.keys() == other.keys() and all(torch.equal(one[key].half(), other[key]) for key in one)

    assert same(weights("image", "bert"), weights("video", "text_encoder"))
    assert same(weights("image", "vqvae"), weights("video", "vae"))
    before, after = weights("image", "unet"), weights("video", "unet")
    assert before.keys() == after.keys() and not same(before, after)


def test_a_base_keeps_its_own_shift(runs: Path, tmp_path: Path) -> None:
    base = LatentShiftPipeline.from_pretrained(runs / "image" / "model")
    base.set_shift({"padding": "circular"})
    base.save_pretrained(tmp_path / "loop")
    words = ("video", runs, f"model={tmp_path}/loop", f"data.latents={tmp_path}/latents")
    assert VideoStage(tiny(*words), CPU).pipeline.config.shift["padding"] == "circular"
    assert VideoStage(tiny(*words, "shift.fold=4"), CPU).pipeline.config.shift["fold"] == 4
    replicate = VideoStage(tiny(*words, "shift.padding=replicate"), CPU)
    assert replicate.pipeline.config.shift == ShiftConfig(padding="replicate").to_dict()
    assert json.loads(replicate.fingerprint["shift"])["padding"] == "replicate"
    said = f"the shift of {tmp_path}/loop has padding circular, and this run has zeros, the paper's"
    assert (lost_shift(tiny(*words, "shift.fold=4")) or "").startswith(said)
    assert lost_shift(tiny(*words)) is lost_shift(tiny(*words, "shift.padding=replicate")) is None
    base.set_shift(None)
    base.save_pretrained(tmp_path / "loop")
    with pytest.raises(ValueError, match="method=latent-shift or method=latent-vdm or method=none"):
        VideoStage(tiny(*words), CPU)


@pytest.fixture(scope="module")
def baseline(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the baseline that was interrupted once."""
    output = tmp_path_factory.mktemp("baseline") / "vdm"
    words = ("video", runs, f"output={output}", "method=latent-vdm")
    run(tiny(*words, "steps=2"), quiet=True)
    run(tiny(*words), quiet=True)
    return output


def test_the_baseline_resumes_as_the_shift_does(runs: Path, baseline: Path, tmp_path: Path) -> None:
    run(tiny("video", runs, f"output={tmp_path}/whole", "method=latent-vdm"), quiet=True)
    same_weights(baseline, tmp_path / "whole")


def test_the_baselines_temporal_layers_learn(baseline: Path) -> None:
    trained = load_file(list_checkpoints(baseline / "checkpoints")[-1] / "weights.safetensors")
    ends = [value for key, value in trained.items() if key.startswith("temporal.") and "to_out" in key]
    assert ends and all(value.any() for value in ends)  # they begin as zeros


def test_the_baseline_is_exported_beside_a_stock_unet(baseline: Path) -> None:
    pipeline = LatentShiftPipeline.from_pretrained(baseline / "model")
    assert pipeline.method == "latent-vdm" and pipeline.config.shift is None
    stock = UNet2DConditionModel.from_pretrained(baseline / "model" / "unet")
    assert list(stock.state_dict()) == list(pipeline.unet.state_dict())


def test_a_run_whose_frames_do_not_meet_says_so_in_its_model(runs: Path, tmp_path: Path) -> None:
    run(tiny("video", runs, f"output={tmp_path}/none", "method=none"), quiet=True)
    assert LatentShiftPipeline.from_pretrained(tmp_path / "none" / "model").method == "none"
    with pytest.raises(ValueError, match="shift is of method latent-shift, and method is none"):
        tiny("video", runs, "method=none", "shift.fold=4")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("method=latent-shift", "has temporal layers, which method=latent-shift would leave out"),
        ("method=none", "has temporal layers, which method=none would leave out"),
        ("shift.fold=4", r"shift is of method latent-shift, and in .*vdm frames meet by latent-vdm"),
    ],
)
def test_the_baseline_is_not_trained_on_without_its_layers(
    word: str, message: str, runs: Path, baseline: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        run(tiny("video", runs, f"model={baseline}", f"output={tmp_path}/further", word), quiet=True)
    assert not (tmp_path / "further").exists()


def test_new_temporal_layers_are_the_runs_and_not_the_bases(runs: Path, tmp_path: Path) -> None:
    """Another library may draw them differently; a checkpoint holds them."""
    drawn = []
    for seed in (0, 1):
        recipe = tiny("video", runs, f"output={tmp_path}/{seed}", "method=latent-vdm", f"seed={seed}")
        stage = VideoStage(recipe, CPU)
        drawn.append((stage.fingerprint["base"], stage.pipeline.temporal.layers[0].to_q.weight))
    (one, this), (other, that) = drawn
    assert one == other and not torch.equal(this, that)


def test_a_samples_draws_are_not_those_that_drew_the_sample() -> None:
    # The same generator would tie a frame's time to the motion's word.
    own = np.random.default_rng([0, 0, 5]).integers(2**32, size=8)
    assert not np.array_equal(rng_for(0, 0, 5).integers(2**32, size=8), own)


def test_a_network_that_is_cut_in_two_is_not_trained(tmp_path: Path) -> None:
    @dataclass
    class Numbers:
        values: torch.Tensor

    class Cut(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.below, self.above = torch.nn.Linear(4, 4), torch.nn.Linear(4, 1)

        def forward(self, batch: Numbers) -> dict[str, torch.Tensor]:
            return {"loss": self.above(self.below(batch.values).detach()).square().mean()}

    class Stage:
        objective = Cut()

        fingerprint: dict[str, str] = {}  # noqa: RUF012
        validation_id = None

        def batches(self, step: int) -> Iterator[Numbers]:
            while True:
                yield Numbers(torch.ones(2, 4))

        def samples_until(self, step: int) -> int:
            return 2 * step

        def describe_data(self) -> dict[str, str]:
            return {}

        data_issues = describe_data

    recipe = tiny("autoencoder", tmp_path)
    with pytest.raises(ValueError, match=r"no gradient reaches 2 of 4 weights \(below.weight"):
        fit(Stage(), recipe, make_accelerator(recipe.compute), quiet=True)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("padding", ["zeros", "replicate"])
def test_a_compiled_unet_has_the_gradients_of_the_eager_one(padding: Padding) -> None:
    # torch 2.13 gave none below an upsampler, under CPU autocast: see compile_for_training.
    unet = install(tiny_unet(), ShiftConfig(padding=padding))
    latents, text = torch.randn(1, 3, 4, 8, 8), TextCondition(torch.randn(1, 5, unet.config.cross_attention_dim))

    def gradients() -> dict[str, torch.Tensor]:
        unet.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            denoise(unet, latents, torch.tensor([500]), text).float().square().mean().backward()
        return {name: value.grad.clone() for name, value in unet.named_parameters()}

    eager = gradients()
    compile_for_training(unet)
    for name, gradient in gradients().items():
        assert (gradient - eager[name]).norm() <= 0.3 * eager[name].norm(), name  # bf16, summed in another order


def test_batches_are_a_function_of_the_step_and_never_held_out(runs: Path) -> None:
    one = VideoStage(tiny("video", runs), CPU)
    other = VideoStage(tiny("video", runs), CPU)
    *_, fifth = itertools.islice(one.batches(1), 5)
    again = batch_of(other, 5)
    for name in ("latents", "noise", "timesteps", "token_ids"):
        assert torch.equal(getattr(fifth, name), getattr(again, name)), name
    assert fifth.names() == again.names() and len(fifth.names()) == 2
    assert fifth.latents.shape == (2, 4, 4, 8, 8)
    image = batch_of(ImageStage(tiny("image", runs), CPU), 2)
    assert image.latents.shape == (2, 1, 4, 8, 8) and not torch.equal(image.latents, image.noise)
    source = Sprites(size=32)
    assert not any(source.describe(index)[0].triple in held_out_triples() for index in range(500))


def _motion_tokens(stage: ImageStage | VideoStage) -> set[int]:
    words = stage.pipeline.text_encoders.tokenize(["moving bouncing circling growing shrinking spinning standing"])[
        0, 0
    ]
    return set(words.tolist()) - {0, 2, 3}  # padding, [CLS] and [SEP]


def test_image_captions_come_with_and_without_motion_and_sometimes_not_at_all(runs: Path) -> None:
    stage = ImageStage(tiny("image", runs, "batch_size=200"), CPU)
    tokens = batch_of(stage, 1).token_ids[:, 0]
    motion = _motion_tokens(stage)
    lengths = (tokens != 0).sum(dim=1)
    with_motion = torch.tensor([bool(set(row.tolist()) & motion) for row in tokens])
    empty = lengths == 2  # [CLS] [SEP]
    assert 0.04 < empty.float().mean() < 0.18  # a tenth of 200
    assert 0.3 < with_motion.float().mean() < 0.6  # half of the rest
    assert not with_motion[empty].any()


def test_a_share_of_the_video_stages_steps_learns_images(runs: Path) -> None:
    stage = VideoStage(tiny("video", runs, "image_share=0.3", "motion_captions=0", "caption_dropout=0"), CPU)
    takes = [stage.batch_spec(step) for step in range(1, 201)]
    shapes = [(take.samples, take.num_frames) for take in takes]
    assert set(shapes) == {(2, 4), (8, 1)}  # the same number of frames either way
    assert shapes.count((8, 1)) == 60
    for shape in set(shapes):  # neither leaves any sample out
        starts = [take.start for take, its_shape in zip(takes, shapes, strict=True) if its_shape == shape]
        assert starts == list(range(0, shape[0] * len(starts), shape[0]))
    motion = _motion_tokens(stage)
    for frames in (1, 4):
        batch = batch_of(stage, 1 + next(k for k, (_, its_shape) in enumerate(shapes) if its_shape == frames))
        assert batch.latents.shape[:2] == (8 // frames, frames)
        assert [bool(set(row[0].tolist()) & motion) for row in batch.token_ids] == [frames > 1] * len(batch.token_ids)


def test_a_curriculum_of_frames_begins_with_few_of_more_clips_and_leaves_none_out() -> None:
    batch = video_batches(3, 16, image_share=0.3, frame_curriculum={8: 50, 3: 40})
    specs = [batch(step) for step in range(1, 201)]
    clips = [(step, each) for step, each in enumerate(specs, 1) if each.num_frames > 1]
    kinds = {each.kept_frames: [step for step, of in clips if of.kept_frames == each.kept_frames] for _, each in clips}
    assert [(frames, min(steps), max(steps)) for frames, steps in kinds.items()] == [
        (3, 1, 39),  # the 40th and the 90th are of images
        (8, 41, 89),
        (None, 91, 199),
    ]
    assert {(each.kept_frames, each.samples) for _, each in clips} == {(3, 15), (8, 6), (None, 3)}
    starts = [each.start for _, each in clips]
    assert starts == [sum(each.samples for _, each in clips[:index]) for index in range(len(clips))]
    images = [each for each in specs if each.num_frames == 1]
    assert [each.start for each in images] == list(range(0, 48 * 60, 48)) and len(images) == 60
    for step in (0, 1, 40, 41, 50, 51, 90, 91, 200):
        counted = [3 if each.num_frames == 1 else each.samples for each in specs[:step]]
        assert clips_until(step, 3, 16, 0.3, {8: 50, 3: 40}) == sum(counted)


def test_few_frames_are_spread_over_the_clip_that_the_whole_run_would_see(runs: Path) -> None:
    words = ("motion_captions=0", "caption_dropout=0", "steps=9", "known_share=0")
    few = VideoStage(tiny("video", runs, *words, "frame_curriculum={2: 4, 3: 4}"), CPU)
    whole = VideoStage(tiny("video", runs, *words, "batch_size=4"), CPU)
    some, same = (next(stage.data.loader.batches(1)) for stage in (few, whole))
    assert some.places == same.places
    recipe = tiny("video", runs, *words, "frame_curriculum={2: 4, 3: 4}")
    halves = [next(VideoStage(recipe, CPU, rank, 2).data.loader.batches(1)) for rank in (0, 1)]
    assert [place for half in halves for place in half.places] == some.places
    assert [len(sample.content) for half in halves for sample in half.samples] == [2] * 4
    for thinned, clip in zip(some.samples, same.samples, strict=True):
        assert np.array_equal(thinned.content, clip.content[[0, 3]]) and thinned.caption == clip.caption
    for step, shape in ((1, (4, 2)), (5, (2, 3)), (9, (2, 4))):
        batch = batch_of(few, step)
        assert batch.latents.shape[:2] == batch.noise.shape[:2] == shape and len(batch.timesteps) == shape[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("frame_curriculum={2: 3, 3: 1}",), "takes 4 steps of 4, and none is left for whole clips"),
        (("frame_curriculum={4: 2}",), "has 4 frames, and a whole clip has 4; leave out"),
        (("frame_curriculum={16: 2}", "num_frames=null"), "has 16 frames, and a whole clip has 16"),  # the base's
    ],
)
def test_a_curriculum_that_never_comes_to_whole_clips_is_refused(
    words: tuple[str, ...], message: str, runs: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        VideoStage(tiny("video", runs, *words), CPU)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_stage_predicts_what_its_recipe_says_and_else_what_its_base_does(kind: str, runs: Path) -> None:
    image = ImageStage(tiny("image", runs, f"prediction_type={kind}", "zero_terminal_snr=false"), CPU)
    assert image.objective.scheduler.config.prediction_type == kind
    video = VideoStage(tiny("video", runs, f"prediction_type={kind}"), CPU)
    assert video.objective.scheduler.config.prediction_type == kind
    base = json.loads((runs / "image" / "model" / "scheduler" / "scheduler_config.json").read_text())
    untold = VideoStage(tiny("video", runs, "prediction_type=null"), CPU)
    assert untold.pipeline.scheduler.config.prediction_type == base["prediction_type"]


def test_the_autoencoder_is_scaled_to_the_standard_deviation_that_is_asked_for(tmp_path: Path) -> None:
    scales = []
    for number, std in enumerate((1.0, 0.25)):
        stage = AutoencoderStage(tiny("autoencoder", tmp_path, f"latent_std={std}"))
        stage.export(tmp_path / str(number))
        scales.append(AutoencoderKL.from_pretrained(tmp_path / str(number) / "model").config.scaling_factor)
    with torch.no_grad():
        spread = stage.autoencoder.encode(torch.cat(list(stage._preview(64)))).latent_dist.mean.std()
    assert 0.2 < spread * scales[1] < 0.3
    assert scales[0] == pytest.approx(4 * scales[1], rel=1e-3)


def test_sampled_moments_have_the_posteriors_mean_and_spread() -> None:
    mean, log_variance = torch.full((1, 2, 1, 1), 3.0), torch.full((1, 2, 1, 1), 2 * np.log(0.5))
    noise = torch.randn(20_000, 2, 1, 1, generator=torch.Generator().manual_seed(0))
    autoencoder = tiny_vae()
    autoencoder.register_to_config(scaling_factor=2.0)
    latents = sample_moments(autoencoder, torch.cat([mean, log_variance], dim=1).expand(20_000, -1, -1, -1), noise)
    assert abs(latents.mean().item() - 6.0) < 0.03 and abs(latents.std().item() - 1.0) < 0.02


def test_the_learning_rate_warms_up_and_comes_down() -> None:
    settings = OptimizerSettings(learning_rate=1.0, warmup_steps=10, schedule="cosine")
    assert [learning_rate(settings, step, 110) for step in (1, 5, 10)] == [0.1, 0.5, 1.0]
    assert learning_rate(settings, 60, 110) == pytest.approx(0.505)
    assert learning_rate(settings, 110, 110) == pytest.approx(0.01)
    constant = OptimizerSettings(learning_rate=1.0, warmup_steps=10, decay_steps=20)
    assert [learning_rate(constant, step, 110) for step in (5, 50, 91, 101, 110)] == [0.5, 1.0, 1.0, 0.5, 0.05]
