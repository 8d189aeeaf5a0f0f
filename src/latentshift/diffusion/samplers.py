"""The sampler of a short name on a model's own noise schedule: a diffusers scheduler that takes its own one's place.

What a model's scheduler does, its clipping and its kind of prediction, the sampler does too, or is refused.
"""

from __future__ import annotations

from typing import Any

from latentshift.diffusion.sampler_names import DISTILLED_SAMPLERS, SAMPLERS, timestep_spacing
from latentshift.diffusion.schedulers import CLIPPING, accepted_settings, bound_to_weights, effective_settings

_SCHEDULE = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
    "prediction_type",
)
_CLIPPING_RANGE = ("clip_sample_range", "dynamic_thresholding_ratio", "sample_max_value")
_CARRIED = (*_SCHEDULE, *CLIPPING, *_CLIPPING_RANGE)
_NO_SAMPLE_PREDICTION = {"EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler"}
# The schedulers that know zero terminal SNR put ᾱ_T = 2^-24 in its place where they divide by it.
_MIN_ALPHA = 2.0**-24


def make_sampler(name: str | None, scheduler: Any, **settings: Any) -> Any:
    """The sampler of that name with ``scheduler``'s noise schedule and prediction type; None is ``scheduler`` itself.

    Timesteps run evenly from the last, T - 1, down to 0 (where dpm++ and unipc stop one short of it); DDIM's from the
    last in steps of T // n. A schedule that the sampler's class can't express is handed to it as betas.

    Args:
        name: one of ``SAMPLERS`` or ``DISTILLED_SAMPLERS``.
        scheduler: the model's.
        **settings: of the sampler, beside the schedule.

    Raises:
        ValueError: for an unknown name, a model that is bound to its own scheduler, or a sampler that lacks
            something which the model's scheduler does.
    """
    import diffusers

    if name is None:
        return scheduler
    if name not in SAMPLERS | DISTILLED_SAMPLERS:
        raise ValueError(f"unknown sampler {name!r}: choose from {', '.join(SAMPLERS | DISTILLED_SAMPLERS)}")
    kind, wanted = (
        getattr(diffusers, (SAMPLERS | DISTILLED_SAMPLERS)[name]),
        {"timestep_spacing": timestep_spacing(name), **settings},
    )
    if type(scheduler) is kind and all(scheduler.config.get(key) == value for key, value in wanted.items()):
        return scheduler
    if reason := bound_to_weights(type(scheduler).__name__, scheduler.config):
        raise ValueError(f"the sampler {name} can't be used for this model: {reason}")
    accepted, effective = accepted_settings(kind), effective_settings(scheduler)
    for setting in CLIPPING:
        if effective.get(setting) and setting not in accepted:
            raise ValueError(
                f"the sampler {name} can't be used for this model: its scheduler sets {setting}, which {kind.__name__} "
                "does not do"
            )
    if effective["prediction_type"] == "sample" and kind.__name__ in _NO_SAMPLE_PREDICTION:
        raise ValueError(
            f'the sampler {name} can\'t be used for this model: {kind.__name__} lacks the prediction type "sample"'
        )
    unset = dict.fromkeys((*CLIPPING, "rescale_betas_zero_snr"), False)
    carried = {**unset, **{key: effective[key] for key in _CARRIED if key in effective}}
    carried = {key: value for key, value in carried.items() if key in accepted or key in scheduler.config}
    others = {key: value for key, value in _stated(scheduler).items() if key not in _CARRIED}
    config = {**others, **carried, **wanted}
    try:
        made = kind.from_config(config)
    except NotImplementedError:  # a kind of schedule that this class does not know
        made = None
    if made is None or not _same_schedule(made, scheduler):
        config |= {"trained_betas": _betas(scheduler), "rescale_betas_zero_snr": False, "beta_schedule": "linear"}
        made = kind.from_config(config)
    return made


def paper_sampler(scheduler: Any) -> Any:
    """The paper's DDPM on a base's schedule; a base that is bound to its own scheduler keeps that.

    Whether predicted latents are clipped stays as the base's scheduler does it.
    """
    if bound_to_weights(type(scheduler).__name__, scheduler.config):
        return scheduler
    return make_sampler("ddpm", scheduler, variance_type="fixed_small")


def _stated(scheduler: Any) -> dict[str, Any]:
    """The configuration without the class's defaults, which differ between classes."""
    defaults = {"_use_default_values", *scheduler.config.get("_use_default_values", ())}
    return {key: value for key, value in scheduler.config.items() if key not in defaults}


def _same_schedule(made: Any, scheduler: Any) -> bool:
    import torch

    ours, theirs = made.alphas_cumprod.cpu(), scheduler.alphas_cumprod.cpu()
    return ours.shape == theirs.shape and bool(torch.equal(ours.clamp(min=_MIN_ALPHA), theirs.clamp(min=_MIN_ALPHA)))


def _betas(scheduler: Any) -> list[float]:
    """The scheduler's betas; where they end in no signal at all, in as little as samplers can divide by."""
    betas, alphas = scheduler.betas.double().cpu().clone(), scheduler.alphas_cumprod.double().cpu()
    if betas[-1] == 1:
        betas[-1] = 1 - _MIN_ALPHA / alphas[-2]
    return [float(beta) for beta in betas]
