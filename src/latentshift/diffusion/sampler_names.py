"""Samplers by their short names: the diffusers classes that they are, and what a call takes by default with each.

Knows no scheduler, and imports nothing heavy: a command checks a name before any library is loaded.
"""

from __future__ import annotations

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

# DDIM takes its steps T // n apart whatever the spacing: "trailing" timesteps lie so where n divides T.
_SPACING = {"ddim": "trailing", "lcm": "leading", "tcd": "leading"}
_DISTILLED_STEPS = 4  # where none are asked for; the more, the nearer to those they were distilled with
_MAX_DISTILLED_STEPS = 50  # of which theirs are taken: original_inference_steps of both classes


def timestep_spacing(name: str) -> str:
    """How the sampler of that name, one of ``SAMPLERS``, spaces its timesteps: a value of ``timestep_spacing``."""
    return _SPACING.get(name, "linspace")


def check_distilled(name: str | None, steps: int | None, *, adapted: bool | None) -> None:
    """Refuse a sampler for distilled weights where there can be none, or with more steps than it has.

    Args:
        name: of a sampler; None: the model's.
        steps: that were asked for; None: none were.
        adapted: whether adapters are added to the model; None: the command takes none.

    Raises:
        ValueError: in the words of the command line.
    """
    if name not in DISTILLED_SAMPLERS:
        return
    if adapted is None:
        raise ValueError(
            f"--sampler {name} is for weights that were distilled for it, and this command adds no LoRA to a model: "
            f"choose from {', '.join(SAMPLERS)}, or make the videos by latentshift generate --lora"
        )
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
