"""The sampling loop: from noise to latents with any diffusers scheduler, one random stream per video.

Knows no network and no text: the denoiser is a callable. Legend of shapes: B videos, F frames, C channels, h × w.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from latentshift.diffusion.guidance import PromptedDenoiser
from latentshift.diffusion.known_frames import KnownFrames
from latentshift.diffusion.shared_noise import mix_noise, unmix_noise

StepCallback = Callable[[int, Tensor, Tensor], Tensor]  # (step, timestep, latents) -> latents to go on with


def video_generators(
    generator: torch.Generator | Sequence[torch.Generator] | None, count: int
) -> list[torch.Generator]:
    """One random stream a video.

    A list with one a video is used as it is. One generator is the first video's, and those that follow have seeds drawn
    from where it stands: so the first k videos are the same however many follow. None draws fresh seeds.

    Raises:
        ValueError: for what is no generator, or a list of another length than there are videos.
    """
    if isinstance(generator, torch.Generator):
        own = generator.clone_state()
        seeds = [int(torch.randint(2**63 - 1, (), generator=own, device=own.device)) for _ in range(count - 1)]
        return [generator, *(torch.Generator(generator.device).manual_seed(seed) for seed in seeds)]
    if generator is None:
        return [torch.Generator().manual_seed(int(torch.randint(2**63 - 1, ()))) for _ in range(count)]
    if not isinstance(generator, Sequence) or not all(isinstance(each, torch.Generator) for each in generator):
        raise ValueError(
            f"generator must be a torch.Generator or a list of them, not {generator!r}: a seed makes one by "
            "torch.Generator().manual_seed(seed)"
        )
    if len(generator) != count:
        raise ValueError(f"{len(generator)} generators were given for {count} videos; give one, or one a video")
    return list(generator)


def initial_noise(shape: Sequence[int], generators: Sequence[torch.Generator], device: torch.device) -> Tensor:
    """Standard normal noise (B, *shape) in float32, drawn for each video on its generator's device."""
    return torch.stack([torch.randn(*shape, generator=each, device=each.device).to(device) for each in generators])


def sample(
    denoiser: PromptedDenoiser,
    scheduler: Any,
    latents: Tensor,
    generators: Sequence[torch.Generator],
    *,
    eta: float = 0.0,
    noise_share: float = 0.0,
    known: KnownFrames | None = None,
    first_step: int | None = None,
    on_step: StepCallback | None = None,
    stop: Callable[[], bool] | None = None,
) -> Tensor:
    """Run the reverse process over ``scheduler.timesteps`` (set before) and return the denoised latents.

    With noise that frames share (:mod:`latentshift.diffusion.shared_noise`) the scheduler works on y = L⁻¹ u, whose
    noise is independent, and the denoiser on the latents u. That is exact for every scheduler whose step is linear
    over frames: L and its inverse commute with scaling, and map noise, velocity and clean latents alike.

    Args:
        denoiser: predicts noise or velocity, as the scheduler expects, for latents (B, F, C, h, w) at a timestep.
        scheduler: any diffusers scheduler.
        latents: independent noise (B, F, C, h, w), already times the scheduler's ``init_noise_sigma``.
        generators: one per video, for the noise of ancestral samplers.
        eta: DDIM's η, for schedulers that have it.
        noise_share: a ≥ 0 of the noise that the denoiser was trained with; 0: independent.
        known: frames that are held at clean latents; None: none.
        first_step: number of the timestep that the latents are noised to (:mod:`latentshift.diffusion.video_start`),
            known frames too, and from which sampling goes on; None: they are noise, and all timesteps are taken.
        on_step: called after every step with the latents u; its result replaces them.
        stop: checked before every step; if true, sampling stops and the current latents are returned.
    """
    accepted = inspect.signature(scheduler.step).parameters
    options: dict[str, Any] = {"return_dict": False}
    if "generator" in accepted:
        options["generator"] = generators[0] if len(generators) == 1 else list(generators)
    if "eta" in accepted:
        options["eta"] = eta
    first = first_step or 0
    if known is not None:
        known = replace(known, first_step=first)
        latents = latents if first_step is not None else known.noised(scheduler, latents, noise_share)
    for step, timestep in enumerate(scheduler.timesteps[first:], first):
        if stop is not None and stop():
            return mix_noise(latents, noise_share)
        noisy = mix_noise(scheduler.scale_model_input(latents, timestep), noise_share)
        if known is None:
            predicted = denoiser(noisy, timestep)
        else:
            predicted = known.replaced(scheduler, step, noisy, denoiser(*known.shown(scheduler, step, noisy)))
        latents = scheduler.step(unmix_noise(predicted, noise_share), timestep, latents, **options)[0]
        if on_step is not None:
            latents = _called(on_step, step - first, timestep, latents, noise_share)
    latents = mix_noise(latents, noise_share)
    return latents if known is None else known.finished(latents)


def _called(on_step: StepCallback, step: int, timestep: Tensor, latents: Tensor, noise_share: float) -> Tensor:
    """The scheduler's latents after a callback: the same bits if that changes nothing."""
    shown = mix_noise(latents, noise_share)
    if shown is latents:
        return on_step(step, timestep, latents)
    before = shown.clone()  # a callback may write into what it is given
    replaced = on_step(step, timestep, shown).to(before)
    return latents if torch.equal(replaced, before) else unmix_noise(replaced, noise_share)
