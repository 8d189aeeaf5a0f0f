"""Where the time of one call goes, by kind of operator, as torch's profiler sees it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from latentshift.benchmarks.generation.operator_kinds import by_kind


def profile_kinds(call: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Seconds of a call by kind of operator (:data:`latentshift.benchmarks.generation.operator_kinds.KINDS`).

    On the CPU an operator's own time, without that of the operators that it calls; on a GPU that of its kernels there.
    The call takes longer under the profiler than without it: shares mean more than seconds.

    Args:
        call: to profile, called before for its first time.
        device: that it works on.
    """
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiler:
        call()
        if on_gpu:
            torch.cuda.synchronize(device)
    events = [each for each in profiler.key_averages() if str(each.device_type).endswith("CPU")]
    return by_kind(
        (each.key, (each.self_device_time_total if on_gpu else each.self_cpu_time_total) / 1e6) for each in events
    )
