"""Diffusers' schedulers: which are supported, what is refused of them, their settings and their timesteps.

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

from latentshift.diffusion.sampler_names import SAMPLERS

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
CLIPPING = ("clip_sample", "thresholding")
"""Settings by which schedulers clip the predicted clean latents, in each step."""
_FORMER_SETTINGS = {"tensor_format", "timestep_values"}  # of early versions of diffusers, without effect


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
    return next((setting for setting in CLIPPING if effective.get(setting)), None)


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
        ValueError: for both, for a list that is empty or does not descend, or a scheduler that does not take it, or
            not so few steps.
    """
    if timesteps is not None and sigmas is not None:
        raise ValueError("give timesteps or sigmas, not both")
    values: Iterable[float]
    if timesteps is not None:
        name, values = "timesteps", timesteps
    elif sigmas is not None:
        name, values = "sigmas", sigmas
    else:
        check_step_count(scheduler, steps)
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


def check_step_count(scheduler: Any, steps: int) -> None:
    """Refuse fewer steps than a scheduler can make, which it meets with an error of numpy's.

    Raises:
        ValueError: naming the fewest.
    """
    least = getattr(scheduler, "pndm_order", 0)  # others made of one keep its setting, and have no such steps
    if steps < least and not scheduler.config.skip_prk_steps:
        raise ValueError(
            f"{type(scheduler).__name__} takes {least} steps or more with its Runge-Kutta steps, not "
            f"{steps}: take more, set skip_prk_steps, or choose another sampler"
        )


def effective_settings(scheduler: Any) -> dict[str, Any]:
    """The settings a scheduler uses, defaults included; its configuration has more, which its class ignores."""
    accepted = accepted_settings(type(scheduler))
    return {key: value for key, value in scheduler.config.items() if key in accepted}


def accepted_settings(kind: type) -> set[str]:
    """The settings of an imported class of schedulers."""
    return set(inspect.signature(kind.__init__).parameters)  # type: ignore[misc]


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

    return frozenset(accepted_settings(getattr(diffusers, kind)))


@cache
def _scheduler_sources() -> tuple[str, ...]:
    spec = find_spec("diffusers")
    folders = (spec and spec.submodule_search_locations) or ()
    return tuple(
        file.read_text("utf-8")
        for folder in folders
        for file in sorted(Path(folder, "schedulers").glob("scheduling_*.py"))
    )
