"""Samplers by short names, each a diffusers scheduler on the model's own noise schedule."""

from __future__ import annotations

from typing import Any

SAMPLERS = {
    "ddpm": "DDPMScheduler",
    "ddim": "DDIMScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-a": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
}


def make_sampler(name: str, scheduler: Any) -> Any:
    """The sampler of that name with ``scheduler``'s noise schedule and prediction type.

    Raises:
        ValueError: for a name that is not known.
    """
    import diffusers

    if name not in SAMPLERS:
        raise ValueError(f"no sampler is called {name!r}; there are {', '.join(SAMPLERS)}")
    kind = getattr(diffusers, SAMPLERS[name])
    if type(scheduler) is kind:
        return scheduler
    return kind.from_config(scheduler.config, timestep_spacing="linspace")
