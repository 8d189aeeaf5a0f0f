"""What an argument of a pipeline's call must be, by its name: diffusers' names mean the same in every pipeline.

Python would take ``True`` for 1, a string for a list of letters, and anything for true, and what is wrong would show
far inside or not at all. Ranges are checked where they are known.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import wraps
from numbers import Real
from typing import Any, ParamSpec, TypeVar

import numpy as np
from torch import Tensor

from latentshift.settings import whole_number

P = ParamSpec("P")
R = TypeVar("R")

_Check = Callable[[Any], bool]


def is_whole(value: Any) -> bool:
    """Whether it is a whole number, of Python or of another library, and neither true nor false."""
    try:
        whole_number(value, "it")
    except ValueError:
        return False
    return True


def is_number(value: Any) -> bool:
    """Whether it is a finite number, and neither true nor false."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _list_of(check: _Check) -> _Check:
    return lambda value: isinstance(value, (list, tuple)) and all(map(check, value))


def _one_or_list(check: _Check) -> _Check:
    return lambda value: check(value) or (isinstance(value, list) and bool(value) and all(map(check, value)))


def _is_schedule(value: Any) -> bool:
    return isinstance(value, (np.ndarray, Tensor)) or _list_of(is_number)(value)


def _is_pair(value: Any) -> bool:
    return _list_of(is_whole)(value) and len(value) == 2


def _are_attention_settings(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_word, value)) and is_number(value.get("scale", 1.0))


def _is_word(value: Any) -> bool:
    return isinstance(value, str)


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, type)


_WHOLE = is_whole, "a whole number"
_NUMBER = is_number, "a finite number"
_NUMBERS = _one_or_list(is_number), "a finite number, or a list of them"
_BOOLEAN = (lambda value: isinstance(value, (bool, np.bool_))), "True or False"
_FUNCTION = _is_function, "a function"
_TENSOR = (lambda value: isinstance(value, Tensor) and bool(value.isfinite().all())), "a tensor of finite numbers"
_SIZE = _is_pair, "two whole numbers, as (512, 512)"
_SCHEDULE = _is_schedule, "a list of numbers"
_KINDS: dict[str, tuple[_Check, str]] = {
    **dict.fromkeys(("num_frames", "height", "width", "num_inference_steps", "original_inference_steps"), _WHOLE),
    **dict.fromkeys(("clip_skip", "callback_steps", "num_extensions", "overlap"), _WHOLE),
    **dict.fromkeys(("num_videos_per_prompt", "videos_per_call", "decode_chunk_size"), _WHOLE),
    **dict.fromkeys(("aesthetic_score", "negative_aesthetic_score", "adapter_conditioning_factor"), _NUMBER),
    **dict.fromkeys(("guidance_scale", "image_guidance_scale", "pag_scale", "pag_adaptive_scale"), _NUMBER),
    **dict.fromkeys(("guidance_rescale", "eta", "strength", "denoising_start", "denoising_end"), _NUMBER),
    **dict.fromkeys(("controlnet_conditioning_scale", "adapter_conditioning_scale"), _NUMBERS),
    **dict.fromkeys(("control_guidance_start", "control_guidance_end"), _NUMBERS),
    "control_mode": (_one_or_list(is_whole), "a whole number, or a list of them"),
    **dict.fromkeys(("return_dict", "guess_mode", "decode_frame_by_frame", "offload_skips", "untested"), _BOOLEAN),
    **dict.fromkeys(("callback_on_step_end", "callback"), _FUNCTION),
    "callback_on_step_end_tensor_inputs": (_list_of(_is_word), "a list of names, as ['latents']"),
    "cross_attention_kwargs": (_are_attention_settings, "a dict of settings, as {'scale': 0.5}"),
    **dict.fromkeys(("timesteps", "sigmas"), _SCHEDULE),
    **dict.fromkeys(("original_size", "crops_coords_top_left", "target_size"), _SIZE),
    **dict.fromkeys(("negative_original_size", "negative_crops_coords_top_left", "negative_target_size"), _SIZE),
    **dict.fromkeys(("prompt_embeds", "negative_prompt_embeds", "latents"), _TENSOR),
    **dict.fromkeys(("pooled_prompt_embeds", "negative_pooled_prompt_embeds"), _TENSOR),
}


def checked_types(call: Callable[P, R]) -> Callable[P, R]:
    """Decorate a pipeline's call: it raises a ValueError that names the first keyword of a wrong type.

    None is taken where it is the default, and for keywords that the call hands on.
    """
    never_none = {
        name
        for name, parameter in inspect.signature(call).parameters.items()
        if parameter.default is not None and parameter.kind is parameter.KEYWORD_ONLY
    }

    @wraps(call)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name, value in kwargs.items():
            if name not in _KINDS or (value is None and name not in never_none):
                continue
            check, must_be = _KINDS[name]
            if not check(value):
                raise ValueError(f"{name} must be {must_be}, not {_shown(value)}")
        return call(*args, **kwargs)

    return checked


def _shown(value: Any) -> str:
    """A value in a message: itself if that is short."""
    if isinstance(value, Tensor):
        return "one with NaN or infinity"
    if isinstance(value, (str, int, float, list, tuple, dict)) and len(shown := repr(value)) <= 80:
        return shown
    return f"a {type(value).__name__}"
