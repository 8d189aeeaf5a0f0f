"""What ``bench generate`` and ``evaluate cost`` measure, checked before torch is imported. Imports no library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from latentshift.models.storage.model_paths import check_model
from latentshift.settings import FAMILIES, MAX_FRAMES, TRAIN_TIMESTEPS, check_guidance, check_steps

# The video models that are compared, by their names on the command line -> in tables.
VIDEO_MODELS = {
    "stock-2d": "stock 2-D U-Net a frame",
    "naive-shift": "naive shift",
    "latent-shift": "Latent-Shift",
    "latent-vdm": "Latent-VDM",
    "animatediff": "AnimateDiff's motion U-Net",
    "modelscope": "ModelScope's 3-D U-Net",
    "stock-2d-compiled": "stock 2-D U-Net a frame, compiled",
    "latent-shift-compiled": "Latent-Shift, compiled",
    "latent-shift-frozen": "Latent-Shift, compiled with its weights",
}
# Those that run through torch.compile with its defaults, or with weights as constants -> what is compiled.
COMPILED = {
    "stock-2d-compiled": "stock-2d",
    "latent-shift-compiled": "latent-shift",
    "latent-shift-frozen": "latent-shift",
}
FROZEN = ("latent-shift-frozen",)  # as pipe.accelerate() compiles on a CPU
EAGER = tuple(name for name in VIDEO_MODELS if name not in COMPILED)
# What exports of Latent-Shift are run by, by their names on the command line -> in tables.
RUNTIMES = {"onnx": "Latent-Shift, ONNX Runtime", "openvino": "Latent-Shift, OpenVINO"}
OF_TABLE_4 = ("latent-shift", "latent-vdm", "animatediff", "modelscope")
ANIMATEDIFF_FRAMES = 32  # positions of its published motion modules


@dataclass(frozen=True)
class GenerationSettings:
    """One comparison.

    Attributes:
        base: a family of :data:`latentshift.settings.FAMILIES` at its published width, or a model as for
            :func:`latentshift.models.storage.model_paths.resolve_model`, of which only the configuration counts.
        models: names of :data:`VIDEO_MODELS`.
        num_frames: F of a video.
        steps: of the sampler.
        guidance: scale; at 1 a step is one pass of F frames, else of 2 F.
        device: to calculate on.
        dtype: name of the weights' dtype.
        threads: of torch on the CPU.
        rounds: in which all take turns.
        whole: whether whole videos are made, beside single passes.
        videos: made at once, B.
        repeat_seconds: how long, in each turn, what takes less is repeated.
        profile: whether one more pass in each turn is profiled by kind of operator.
        peak_dtypes: names of the dtypes in which the device is measured at its best.
        runtimes: names of :data:`RUNTIMES`, which run exports of Latent-Shift.
        left_out: other names of either -> why they are left out, in a sentence.
        size: side of a frame in pixels; None: the base's.
        decoded_at_once: frames of a video; None: all.
    """

    base: str
    models: tuple[str, ...]
    num_frames: int
    steps: int
    guidance: float
    device: str
    dtype: str
    threads: int
    rounds: int
    whole: bool
    repeat_seconds: float = 1.0
    profile: bool = False
    peak_dtypes: tuple[str, ...] = ("float32",)
    videos: int = 1
    runtimes: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    size: int | None = None
    decoded_at_once: int | None = None

    @property
    def texts(self) -> int:
        """Texts in a pass: with guidance also the empty sentence for each video."""
        return self.videos * (1 if self.guidance == 1.0 else 2)


def parse_video_models(names: str) -> tuple[str, ...]:
    """Names with commas between them, each once, in the order given.

    Raises:
        ValueError: for an unknown name, or none.
    """
    return _parse(names, "video model", tuple(VIDEO_MODELS))


def parse_runtimes(names: str) -> tuple[str, ...]:
    """Likewise of runtimes; none for ``none``.

    Raises:
        ValueError: for an unknown name, no name, or one whose libraries are not installed.
    """
    if names.strip() == "none":
        return ()
    from latentshift.export.manifest import TARGETS, check_libraries

    chosen = _parse(names, "runtime", (*RUNTIMES, "none"))
    if "none" in chosen:
        raise ValueError("--runtimes none stands alone: name runtimes, or none")
    for target in TARGETS:
        if target in chosen:
            check_libraries(target, "--runtimes", to_run=False)
    return chosen


def check_runtimes_device(runtimes: Sequence[str], device: str) -> None:
    """Refuse runtimes that were asked for, all of which run on the CPU, on another device.

    Raises:
        ValueError: naming both.
    """
    if runtimes and device.partition(":")[0] != "cpu":
        raise ValueError(f"--runtimes {runtimes[0]} runs on the CPU, and not on {device}: add --device cpu")


def _parse(names: str, what: str, known: Sequence[str]) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        raise ValueError(
            f"there is no {what} {unknown[0] if unknown else names!r} to compare: choose from {', '.join(known)}"
        )
    return chosen


def check_base(name: str) -> None:
    """Refuse an image model that nothing can be built like, as far as possible without loading a library.

    Raises:
        ValueError: if it is no family and no model either.
    """
    if name not in FAMILIES:
        check_model(name)


def check_comparison(
    models: Sequence[str], num_frames: int | None, steps: int, guidance: float | None, rounds: int, videos: int = 1
) -> None:
    """Refuse settings that can't be measured; None is for a model's own.

    Raises:
        ValueError: for the first of them.
    """
    if num_frames is not None and not 1 <= num_frames <= MAX_FRAMES:
        raise ValueError(f"--frames must be from 1 to {MAX_FRAMES:,}, not {num_frames:,}")
    if "animatediff" in models and (num_frames or 1) > ANIMATEDIFF_FRAMES:
        raise ValueError(
            f"AnimateDiff's motion U-Net takes {ANIMATEDIFF_FRAMES} frames at most, not {num_frames}: leave "
            "animatediff out with --models, or ask for fewer frames"
        )
    check_steps(steps, {"num_train_timesteps": TRAIN_TIMESTEPS, "timestep_spacing": "linspace"}, "--steps")
    if guidance is not None:
        check_guidance(guidance, "--guidance")
    if rounds < 1:
        raise ValueError(f"--rounds must be 1 or more, not {rounds}")
    if videos < 1:
        raise ValueError(f"--videos must be 1 or more, not {videos}")
