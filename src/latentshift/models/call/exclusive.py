"""Refuse concurrent calls of a pipeline, whose scheduler and callbacks keep the state of one call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_in_use: set[int] = set()  # ids of the pipelines and schedulers of running calls
_lock = threading.Lock()

_OWN_PIPELINE_HINT = (
    "give each thread a pipeline of its own with LatentShiftPipeline.from_pipe, which shares the weights"
)


def one_call_at_a_time(call: Callable[P, R]) -> Callable[P, R]:
    """Decorate a pipeline's method: it raises a RuntimeError while another call uses the pipeline or its scheduler.

    The method's first argument is the pipeline, which has a ``scheduler``, and may have an ``own_pipeline_hint`` that
    says how to give each thread its own.
    """

    @wraps(call)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        pipeline: Any = args[0]
        used = {id(pipeline), id(pipeline.scheduler)}
        with _lock:
            if _in_use & used:
                own = getattr(pipeline, "own_pipeline_hint", _OWN_PIPELINE_HINT)
                raise RuntimeError(
                    "this pipeline is generating already, and its scheduler keeps the state of one video at a time: "
                    f"wait for that call, or {own}"
                )
            _in_use.update(used)
        try:
            return call(*args, **kwargs)
        finally:
            with _lock:
                _in_use.difference_update(used)

    return guarded
