"""Known frames in the sampling loop: every sampler brings them to their clean latents, and leaves the others free."""

from __future__ import annotations

import math
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from latentshift.diffusion.known_frames import KnownFrames, check_known
from latentshift.diffusion.sampling import initial_noise, sample
from latentshift.diffusion.schedulers import KNOWN_SCHEDULERS

STEPS = 8
SHAPE = (2, 3, 1, 16, 16)  # B, F, C, h, w
HELD_BY_SAMPLING_ALONE = 0.999  # all steps, and at the end the latents stay as the sampler has them
NO_SAMPLE = {"EulerAncestralDiscrete", "HeunDiscrete", "KDPM2AncestralDiscrete", "KDPM2Discrete", "PNDM"}
CASES = [
    (kind, prediction)
    for kind in sorted(each.removesuffix("Scheduler") for each in KNOWN_SCHEDULERS - {"DPMSolverSDEScheduler"})
    for prediction in ("epsilon", "v_prediction", "sample")
    if prediction != "sample" or not (kind in NO_SAMPLE or kind.startswith("EDM"))
]
# Those that end at the noise of timestep 0, σ = 0.03, and not at none.
ENDS_NOISY = {"DEISMultistep", "PNDM", "TCD"}
CLEAN = torch.randn(SHAPE, generator=torch.Generator().manual_seed(9))


def scheduler_of(kind: str, prediction: str, **settings: Any) -> Any:
    made = getattr(diffusers, f"{kind}Scheduler")
    if kind.startswith("EDM"):
        return made(prediction_type=prediction, **settings)
    shared = {"beta_start": 8.5e-4, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    if "clip_sample" in made.__init__.__annotations__:
        shared["clip_sample"] = False
    return made(**{**shared, "prediction_type": prediction, **settings})


def run(scheduler: Any, known: KnownFrames | None, noise_share: float = 0.0) -> tuple[Tensor, list[Tensor]]:
    """Two videos whose frames pull on one another; and the denoiser's inputs, step by step."""
    inputs: list[Tensor] = []

    def denoiser(noisy: Tensor, timestep: Tensor) -> Tensor:
        inputs.append(noisy)
        return noisy.mean(dim=1, keepdim=True).expand_as(noisy) * 0.5

    scheduler.set_timesteps(STEPS)
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(SHAPE))][: SHAPE[0]]
    latents = initial_noise(SHAPE[1:], generators, torch.device("cpu")) * scheduler.init_noise_sigma
    return sample(denoiser, scheduler, latents, generators, noise_share=noise_share, known=known), inputs


@pytest.mark.parametrize("noise_share", [0.0, 1.0])
@pytest.mark.parametrize(("kind", "prediction"), CASES)
def test_every_sampler_brings_a_known_frame_to_its_latents(kind: str, prediction: str, noise_share: float) -> None:
    scheduler = scheduler_of(kind, prediction)
    known = KnownFrames(CLEAN, (HELD_BY_SAMPLING_ALONE, 0.0, 0.0))
    result, inputs = run(scheduler, known, noise_share)
    torch.testing.assert_close(result[:, 0], CLEAN[:, 0], atol=0.25 if kind in ENDS_NOISY else 1e-3, rtol=0)
    free, _ = run(scheduler, None, noise_share)
    assert torch.isfinite(result).all() and not torch.allclose(result[:, 1:], free[:, 1:], atol=1e-3)
    # In the middle it is as noisy as it should be: what is left without its share of x_0 has the share of the noise.
    middle, clean = (
        inputs[len(inputs) // 2][:, 0].flatten(),
        CLEAN[:, 0].flatten() / scheduler.config.get("sigma_data", 1),
    )
    signal = float((middle @ clean) / (clean @ clean))
    assert 0.05 < signal < 1 and float((middle - signal * clean).std()) == pytest.approx(
        (1 - signal**2) ** 0.5, abs=0.1
    )


def test_flow_matching_and_noise_that_is_drawn_anew() -> None:
    known = KnownFrames(CLEAN, (0.0, HELD_BY_SAMPLING_ALONE, 0.0))
    for settings in (
        {"use_flow_sigmas": True, "prediction_type": "flow_prediction"},
        {"use_karras_sigmas": True, "algorithm_type": "sde-dpmsolver++"},
        {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
    ):
        result, _ = run(scheduler_of("DPMSolverMultistep", "epsilon", **settings), known)
        torch.testing.assert_close(result[:, 1], CLEAN[:, 1], atol=1e-3, rtol=0)


def test_a_frame_that_is_held_to_the_end_has_the_very_bits_and_a_weaker_one_drifts_off() -> None:
    scheduler = scheduler_of("DDIM", "epsilon")  # of Stable Diffusion: its last step leaves a little noise
    result, inputs = run(scheduler, KnownFrames(CLEAN, (1.0, 0.5, 0.0)), noise_share=1.0)
    assert torch.equal(result[:, 0], CLEAN[:, 0])
    whole, whole_inputs = run(scheduler, KnownFrames(CLEAN, (1.0, 1.0, 0.0)), noise_share=1.0)
    for step, (half, full) in enumerate(zip(inputs, whole_inputs, strict=True)):
        assert torch.equal(half, full) == (step <= STEPS / 2)  # the same until step 4 has been taken without it
    assert not torch.allclose(result[:, 1], whole[:, 1], atol=0.1)
    # Ever so weak, it is held in the first step.
    for strength, same in ((0.01, False), (0.0, True)):
        weak, _ = run(scheduler, KnownFrames(CLEAN, (strength, 0.0, 0.0)))
        assert torch.equal(weak, run(scheduler, None)[0]) == same


def test_stopping_early_leaves_known_frames_as_noisy_as_the_rest() -> None:
    scheduler = scheduler_of("DDIM", "epsilon")
    scheduler.set_timesteps(STEPS)
    noise = initial_noise(SHAPE[1:], [torch.Generator().manual_seed(k) for k in range(2)], torch.device("cpu"))
    known = KnownFrames(CLEAN, (1.0, 0.0, 0.0))
    stopped = sample(lambda noisy, _: noisy, scheduler, noise, [], known=known, stop=lambda: True)
    alpha = scheduler.alphas_cumprod[scheduler.timesteps[0]]
    torch.testing.assert_close(stopped[:, 0], alpha.sqrt() * CLEAN[:, 0] + (1 - alpha).sqrt() * noise[:, 0])
    assert torch.equal(stopped[:, 1:], noise[:, 1:])


@pytest.mark.parametrize("kind", ["DDIM", "EulerDiscrete", "HeunDiscrete", "EDMEuler", "LCM"])
def test_clean_frames_are_shown_at_a_timestep_of_their_own(kind: str) -> None:
    scheduler = scheduler_of(kind, "epsilon")
    scheduler.set_timesteps(STEPS)
    noisy = torch.randn(SHAPE)
    shown, timesteps = KnownFrames(CLEAN, (1.0, 0.0, 0.5), clean=True).shown(scheduler, 1, noisy)
    scale = scheduler.config.get("sigma_data", 1.0)
    assert torch.equal(shown[:, [0, 2]], CLEAN[:, [0, 2]] / scale) and torch.equal(shown[:, 1], noisy[:, 1])
    least = 0.25 * math.log(scheduler.config.sigma_min) if kind == "EDMEuler" else 0.0  # EDM's are of σ
    now = float(scheduler.timesteps[1])
    assert timesteps.tolist() == [pytest.approx([least, now, least])] and timesteps.dtype == scheduler.timesteps.dtype
    later, timesteps = KnownFrames(CLEAN, (1.0, 0.0, 0.5), clean=True).shown(scheduler, STEPS - 1, noisy)
    assert torch.equal(later[:, 2], noisy[:, 2]) == (kind != "HeunDiscrete")  # has twice as many steps
    as_noisy, timestep = KnownFrames(CLEAN, (1.0, 0.0, 0.5)).shown(scheduler, 1, noisy)
    assert as_noisy is noisy and timestep.ndim == 0


def test_a_scheduler_that_clips_is_refused() -> None:
    with pytest.raises(ValueError, match=r"clips the predicted latents \(clip_sample\), and those of known frames"):
        check_known(scheduler_of("DDPM", "epsilon", clip_sample=True))
    check_known(scheduler_of("DDPM", "epsilon"))
