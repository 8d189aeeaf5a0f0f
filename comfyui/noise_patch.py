"""Noise that frames share (:mod:`latentshift.diffusion.shared_noise`), for a MODEL that was trained with it.

Any of ComfyUI's samplers works on y = L⁻¹ u, whose noise is independent as it draws it, and the MODEL sees the latents
u = L y: exact for every sampler that is linear over frames and takes what it adds up from the MODEL's answer. Those of
CFG++ take the prediction without guidance from inside the MODEL, where it is in the space of u, and are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from latentshift.diffusion.shared_noise import mix_noise, unmix_noise
from latentshift.settings import check_noise_share

_KEY = "latentshift"
_LOOK_INSIDE = "sampler_post_cfg_function"  # ComfyUI's functions that see predictions as guidance has them


def share_noise(model: Any, noise_share: float) -> None:
    """Have a MODEL, a node's own, sampled with noise of this share between frames; 0: with independent noise.

    Raises:
        ValueError: if it is out of range; and when the MODEL is sampled with a mask, which holds in one space of
            latents alone, or by a sampler of CFG++.
    """
    check_noise_share(noise_share)
    from comfy.patcher_extension import WrappersMP

    for kind in (WrappersMP.SAMPLER_SAMPLE, WrappersMP.PREDICT_NOISE):
        model.remove_wrappers_with_key(kind, _KEY)
    if noise_share > 0:
        model.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, _KEY, partial(_sample, noise_share))
        model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, _KEY, partial(_predict, noise_share))


def check_sampler(options: dict[str, Any]) -> None:
    """Refuse a sampler that looks into the MODEL's answer, as those of CFG++ do, and would mix the two spaces up.

    Args:
        options: ComfyUI's ``model_options`` of a call, which has what the sampler asks for, whatever its name is.

    Raises:
        ValueError: naming the sampler.
    """
    before, name = options.get(_KEY, (0, ""))
    if len(options.get(_LOOK_INSIDE, ())) > before:
        raise ValueError(
            f"the sampler {name} can't be used with noise that frames share, since it looks at the prediction without "
            "guidance; choose one without CFG++ (cfg_pp), or set noise_share to 0 for it"
        )


def _sample(
    share: float,
    executor: Any,
    guider: Any,
    sigmas: Tensor,
    options: dict[str, Any],
    callback: Callable[..., Any] | None,
    noise: Tensor,
    latent_image: Tensor | None = None,
    mask: Tensor | None = None,
    *args: Any,
) -> Tensor:
    """One run of a sampler, from independent noise and latents u."""
    if mask is not None:
        raise ValueError("a latent mask can't be used with noise that frames share; set noise_share to 0 for it")

    def shown(step: int, denoised: Tensor, latents: Tensor, steps: int) -> Any:
        assert callback is not None
        return callback(step, _mix(denoised, share), _mix(latents, share), steps)

    # A sampler adds its own function to those that nodes have put into the MODEL, which see the frames' latents alone.
    model_options = dict(options.get("model_options", {}))
    function = getattr(executor.class_obj, "sampler_function", None)
    name = getattr(function, "__name__", type(executor.class_obj).__name__).removeprefix("sample_")
    model_options[_KEY] = len(model_options.get(_LOOK_INSIDE, ())), name
    options = {**options, "model_options": model_options}
    independent = latent_image if latent_image is None else _unmix(latent_image, share)
    result = executor(guider, sigmas, options, callback and shown, noise, independent, mask, *args)
    return _mix(result, share)


def _predict(
    share: float, executor: Any, y: Tensor, timestep: Tensor, model_options: dict[str, Any] | None = None, *args: Any
) -> Tensor:
    """The clean latents that guidance predicts, in the sampler's space."""
    model_options = model_options or {}
    check_sampler(model_options)
    return _unmix(executor(_mix(y, share), timestep, model_options, *args), share)


def _mix(frames: Tensor, share: float) -> Tensor:
    return mix_noise(frames[None], share)[0]  # (1, F, C, h, w)


def _unmix(frames: Tensor, share: float) -> Tensor:
    return unmix_noise(frames[None], share)[0]
