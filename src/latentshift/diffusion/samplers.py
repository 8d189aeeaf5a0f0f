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


# DDIM takes its steps T // n apart, whatever it was told of the spacing: "trailing" timesteps lie so where n divides T.
_SPACING = {"ddim": "trailing"}


def make_sampler(name: str | None, scheduler: Any) -> Any:
    """The sampler of that name with ``scheduler``'s noise schedule and prediction type; None is ``scheduler`` itself.

    Timesteps run evenly from the last, T - 1, down to 0 (where dpm++ and unipc stop one short of it); DDIM's from the
    last in steps of T // n.

    Raises:
        ValueError: for a name that is not known.
    """
    import diffusers

    if name is None:
        return scheduler
    if name not in SAMPLERS:
        raise ValueError(f"no sampler is called {name!r}; there are {', '.join(SAMPLERS)}")
    kind = getattr(diffusers, SAMPLERS[name])
    spacing = _SPACING.get(name, "linspace")
    if type(scheduler) is kind and scheduler.config.timestep_spacing == spacing:
        return scheduler
    return kind.from_config(scheduler.config, timestep_spacing=spacing)
