"""Samplers by short names, each a diffusers scheduler on the model's noise schedule; which schedulers are supported.

A model's *schedule* (betas, prediction type) is a property of its weights and is never changed here. Most schedulers
are samplers of such a schedule and can stand in for each other; some belong to the weights as the schedule does.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

from latentshift.settings import STEPS

SAMPLERS = {
    "ddpm": "DDPMScheduler",
    "ddim": "DDIMScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-a": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
}
DISTILLED_SAMPLERS = {"lcm": "LCMScheduler", "tcd": "TCDScheduler"}
"""For weights that were distilled for them, as those of an LCM- or Hyper-LoRA on a model of another scheduler."""

# Samplers of a schedule of T steps given by betas: any of them can take another's place.
_INTERCHANGEABLE = {
    *SAMPLERS.values(),
    "DDIMParallelScheduler",
    "DDPMParallelScheduler",
    "DEISMultistepScheduler",
    "DPMSolverSDEScheduler",
    "DPMSolverSinglestepScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
}
# Schedulers that scale what the network is given and what it returns: networks are trained, or distilled, for them.
_WEIGHT_BOUND_SCHEDULERS = {"EDMDPMSolverMultistepScheduler", "EDMEulerScheduler", "LCMScheduler", "TCDScheduler"}
KNOWN_SCHEDULERS = frozenset(_INTERCHANGEABLE | _WEIGHT_BOUND_SCHEDULERS)
# Its noise comes from a process of its own, without a seed of the video's.
_UNSEEDED = {"DPMSolverSDEScheduler"}
# They divide by √ᾱ_T as it is.
_DIVIDES_BY_TERMINAL_ALPHA = {"DDIMParallelScheduler", "DDIMScheduler", "DDPMParallelScheduler", "DDPMScheduler"}

_SCHEDULE = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
    "prediction_type",
)
_CLIPPING = ("clip_sample", "thresholding")  # of the predicted clean latents, in each step
_CLIPPING_RANGE = ("clip_sample_range", "dynamic_thresholding_ratio", "sample_max_value")
_CARRIED = (*_SCHEDULE, *_CLIPPING, *_CLIPPING_RANGE)
_NO_SAMPLE_PREDICTION = {"EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler"}
# DDIM takes its steps T // n apart whatever the spacing: "trailing" timesteps lie so where n divides T.
_SPACING = {"ddim": "trailing", "lcm": "leading", "tcd": "leading"}
_DISTILLED_STEPS = 4  # where none are asked for; the more, the nearer to those they were distilled with
_MAX_DISTILLED_STEPS = 50  # of which theirs are taken: original_inference_steps of both classes
_FORMER_SETTINGS = {"tensor_format", "timestep_values"}  # of early versions of diffusers, without effect
# The schedulers that know zero terminal SNR put ᾱ_T = 2^-24 in its place where they divide by it.
_MIN_ALPHA = 2.0**-24


def bound_to_weights(kind: str, config: Mapping[str, Any]) -> str | None:
    """Why a model can be sampled with its own scheduler only, as a phrase; None if others can replace it.

    Args:
        kind: class name of the scheduler.
        config: its configuration.
    """
    if kind in _WEIGHT_BOUND_SCHEDULERS:
        return f"its network was made for {kind}"
    if config.get("use_flow_sigmas") or config.get("prediction_type") == "flow_prediction":
        return f"its {kind} is set to flow matching"
    if config.get("timestep_type") == "continuous":
        return f"its {kind} has continuous timesteps"
    return None


def timestep_spacing(name: str) -> str:
    """How the sampler of that name, one of ``SAMPLERS``, spaces its timesteps: a value of ``timestep_spacing``."""
    return _SPACING.get(name, "linspace")


def check_distilled(name: str | None, steps: int | None, *, adapted: bool) -> None:
    """Refuse a sampler for distilled weights where there can be none, or with more steps than it has.

    Args:
        name: of a sampler; None: the model's.
        steps: that were asked for; None: none were.
        adapted: whether adapters are added to the model.

    Raises:
        ValueError: in the words of the command line.
    """
    if name not in DISTILLED_SAMPLERS:
        return
    if not adapted:
        raise ValueError(
            f"--sampler {name} is for weights that were distilled for it: give their LoRA by --lora; a model whose own "
            f"scheduler is {DISTILLED_SAMPLERS[name]} needs no --sampler"
        )
    if steps is not None and steps > _MAX_DISTILLED_STEPS:
        raise ValueError(f"--steps must be 1 to {_MAX_DISTILLED_STEPS} with --sampler {name}, not {steps}")


def default_steps(sampler: str | None, own: int) -> int:
    """Steps where none are asked for: the model's with its own sampler, the paper's with another, few of a distilled.

    Args:
        sampler: one of ``SAMPLERS`` or ``DISTILLED_SAMPLERS``, or None.
        own: the model's ``num_inference_steps``.
    """
    return own if sampler is None else _DISTILLED_STEPS if sampler in DISTILLED_SAMPLERS else STEPS


def default_guidance(sampler: str | None, own: float) -> float:
    """Guidance scale where none is asked for: the model's, or none for distilled weights, which have it in them."""
    return 1.0 if sampler in DISTILLED_SAMPLERS else own


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
    accepted, effective = _accepted(kind), effective_settings(scheduler)
    for setting in _CLIPPING:
        if effective.get(setting) and setting not in accepted:
            raise ValueError(
                f"the sampler {name} can't be used for this model: its scheduler sets {setting}, which {kind.__name__} "
                "does not do"
            )
    if effective["prediction_type"] == "sample" and kind.__name__ in _NO_SAMPLE_PREDICTION:
        raise ValueError(
            f'the sampler {name} can\'t be used for this model: {kind.__name__} lacks the prediction type "sample"'
        )
    unset = dict.fromkeys((*_CLIPPING, "rescale_betas_zero_snr"), False)
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


def check_scheduler(kind: str, config: Mapping[str, Any]) -> None:
    """Refuse an unsupported scheduler.

    Args:
        kind: its class name.
        config: its configuration.

    Raises:
        ValueError: with a phrase that continues the name of the file.
    """
    if kind not in KNOWN_SCHEDULERS:
        known = ", ".join(sorted(KNOWN_SCHEDULERS))
        raise ValueError(f"the scheduler is a {kind}; latentshift knows {known}")
    betas, total = config.get("trained_betas"), config.get("num_train_timesteps", 1000)
    if betas is not None and len(betas) != total:
        raise ValueError(f"trained_betas has {len(betas)} values for num_train_timesteps = {total}")
    for setting, value in config.items():
        if not (setting.startswith("_") or value in (None, False) or _is_known(setting, kind)):
            raise ValueError(f"{setting} is {value!r}; latentshift does not know this setting")


def check_sampling(scheduler: Any, noise_share: float = 0.0) -> None:
    """Refuse a scheduler that is known, for its schedule's sake, but makes no videos.

    Args:
        scheduler: of a pipeline.
        noise_share: how much of the noise frames share.

    Raises:
        ValueError: if its noise does not come from the video's generator, it would divide by zero, or it clips where
            frames share noise.
    """
    check_linear(scheduler, noise_share)
    kind, config = type(scheduler).__name__, scheduler.config
    if kind in _DIVIDES_BY_TERMINAL_ALPHA and config.rescale_betas_zero_snr and config.prediction_type == "epsilon":
        raise ValueError(
            f"{kind} can't begin at zero terminal SNR (rescale_betas_zero_snr) with the prediction of noise; choose "
            "the sampler euler, euler-a, heun, dpm++ or unipc"
        )
    if kind in _UNSEEDED:
        raise ValueError(f"{kind} draws noise that no seed decides; choose the sampler {' or '.join(SAMPLERS)}")


def check_eta(scheduler: Any, eta: float) -> None:
    """Refuse an η that is outside of its range, or that a scheduler would not look at.

    Args:
        scheduler: of a pipeline.
        eta: η, 0 where none is asked for.

    Raises:
        ValueError: in the words of a pipeline's arguments.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be 0 to 1, not {eta}")
    if eta > 0 and "eta" not in inspect.signature(scheduler.step).parameters:
        raise ValueError(f"eta has no effect on {type(scheduler).__name__}: leave it out, or take a DDIMScheduler")


def set_timesteps(
    scheduler: Any, steps: int, timesteps: Iterable[int] | None, sigmas: Iterable[float] | None, device: Any
) -> None:
    """Set a scheduler's timesteps: evenly, or as they are given.

    Args:
        scheduler: of a pipeline.
        steps: n ≥ 1, if neither of the others is given.
        timesteps: whole numbers, descending, 0 … T-1, as a list or an array; or None.
        sigmas: descending, 0 or more, likewise; or None.
        device: of the timesteps.

    Raises:
        ValueError: for both, for a list that is empty or does not descend, or a scheduler that does not take it.
    """
    if timesteps is not None and sigmas is not None:
        raise ValueError("give timesteps or sigmas, not both")
    values: Iterable[float]
    if timesteps is not None:
        name, values = "timesteps", timesteps
    elif sigmas is not None:
        name, values = "sigmas", sigmas
    else:
        scheduler.set_timesteps(steps, device=device)
        return
    given = [float(value) for value in values]
    if not given or any(later >= earlier for earlier, later in pairwise(given)) or given[-1] < 0:
        raise ValueError(f"{name} must be a list of numbers from high to low, none below 0, not {given}")
    if name == "timesteps":
        if any(not value.is_integer() for value in given):
            raise ValueError(f"timesteps must be whole numbers, not {given}")
        if given[0] >= scheduler.config.num_train_timesteps:
            raise ValueError(f"timesteps must be below {scheduler.config.num_train_timesteps}, not {given[0]:.0f}")
        given = [int(value) for value in given]
    if name not in inspect.signature(scheduler.set_timesteps).parameters:
        raise ValueError(f"{type(scheduler).__name__} takes no {name}: leave them out, or choose another sampler")
    scheduler.set_timesteps(**{name: given}, device=device)


def check_linear(scheduler: Any, noise_share: float) -> None:
    """Refuse a scheduler that clips if frames share noise: it works on L⁻¹ u, and clipping is not linear.

    Raises:
        ValueError: naming the setting of the scheduler.
    """
    if noise_share > 0 and (setting := clipping_setting(scheduler)):
        raise ValueError(
            f"the scheduler clips the predicted latents ({setting}), and that can't be done where frames share "
            f"noise (noise_share {noise_share:g}); set {setting} to false in the scheduler's configuration, or "
            "noise_share to 0"
        )


def clipping_setting(scheduler: Any) -> str | None:
    """The setting by which a scheduler clips the predicted clean latents; None if it does not."""
    effective = effective_settings(scheduler)
    return next((setting for setting in _CLIPPING if effective.get(setting)), None)


def _is_known(setting: str, kind: str) -> bool:
    """Whether any known scheduler has the setting: configurations keep what other classes than their own go by."""
    return setting in _FORMER_SETTINGS or any(
        setting in settings_of(each) for each in (kind, *sorted(KNOWN_SCHEDULERS - {kind}))
    )


@cache
def settings_of(kind: str) -> frozenset[str]:
    """The settings of a known scheduler's class, read from its source: importing diffusers takes seconds.

    Args:
        kind: class name.
    """
    for source in _scheduler_sources():
        if f"class {kind}(" not in source:
            continue
        for statement in ast.parse(source).body:
            if isinstance(statement, ast.ClassDef) and statement.name == kind:
                for method in statement.body:
                    if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                        return frozenset(each.arg for each in (*method.args.args[1:], *method.args.kwonlyargs))
    import diffusers  # installed without sources

    return frozenset(_accepted(getattr(diffusers, kind)))


@cache
def _scheduler_sources() -> tuple[str, ...]:
    spec = find_spec("diffusers")
    folders = (spec and spec.submodule_search_locations) or ()
    return tuple(
        file.read_text("utf-8")
        for folder in folders
        for file in sorted(Path(folder, "schedulers").glob("scheduling_*.py"))
    )


def _accepted(kind: type) -> set[str]:
    return set(inspect.signature(kind.__init__).parameters)  # type: ignore[misc]


def effective_settings(scheduler: Any) -> dict[str, Any]:
    """The settings a scheduler uses, defaults included; its configuration has more, which its class ignores."""
    accepted = _accepted(type(scheduler))
    return {key: value for key, value in scheduler.config.items() if key in accepted}


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
