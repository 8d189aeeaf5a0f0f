"""Settings of models and training that can be checked before torch is imported, and their allowed values.

Recipes and the command line use them to refuse mistakes at once. Imports nothing else of the package, and no library.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Real
from typing import Any, Literal, get_args

Padding = Literal["zeros", "circular", "replicate"]
Direction = Literal["first_from_past", "first_from_future", "past_only"]
Place = Literal["conv1", "conv2", "block"]
Blocks = Literal["all", "encoder", "decoder"]
Weighting = Literal["uniform", "min_snr", "debiased", "edm"]  # of a timestep in the loss

# Of the temporal shift.
PADDINGS: tuple[Padding, ...] = get_args(Padding)
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
PLACES: tuple[Place, ...] = get_args(Place)
BLOCKS: tuple[Blocks, ...] = get_args(Blocks)
MIN_FOLD = 2
METHODS = ("latent-shift", "latent-vdm", "none")  # temporal methods
FAMILIES = ("ldm", "sd1", "sd2", "sd2-base", "sdxl")  # of image models
# Classes of saved pipelines that are opened: ours, and those of the families.
PIPELINES = ("LatentShiftPipeline", "LDMTextToImagePipeline", "StableDiffusionPipeline", "StableDiffusionXLPipeline")
IMAGE_MODEL_FRAMES = 16  # of a video, where an image model becomes a video model
DTYPES = ("float32", "bfloat16", "float16")
SPEEDS = ("exact", "fast")  # of sampling
OUTPUT_TYPES = ("pil", "np", "pt", "latent")  # of a pipeline's frames
KEYFRAME_INPUTS = ("clean", "noisy")  # how the U-Net sees known frames
VIDEO_STRENGTH = 0.8  # of a change to a video, if nobody says: as in diffusers' img2img
LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2")  # suffixes of the names of adapted layers
MAX_FRAMES = 100_000  # of a video: more than three hours at 8 a second
MAX_FPS = 10_000
_MOST_AT_ONCE, _CHUNK, _FEW_PIXELS = 64, 8, 32**2
TRAIN_TIMESTEPS = 1000  # T of the paper
STEPS = 100  # of DDPM sampling (Table 6)
KEEP_IMAGE_NOISE_SHARE = 4.0  # docs/method.md says why
MAX_NOISE_SHARE = 1000.0  # the rest, 1 / a, is no more than half precision resolves


@dataclass(frozen=True)
class ShiftConfig:
    """Settings of the temporal shift. The defaults are the paper's; docs/method.md describes the others.

    Attributes:
        fold: ``⌊C / fold⌋`` channels are taken from each neighbour (Table 6, "Shift Fold 3": a third each). If C
            is not divisible, the remainder stays in the middle: 320 channels are 106 + 108 + 106. With 2 none of an
            even number stay.
        padding: values beyond the ends: ``"zeros"`` (Eq. 3); ``"circular"``: the last frame precedes the first (for
            seamless loops); ``"replicate"``: the end frame itself, so that a single frame, and each of F equal frames,
            goes through the image model unchanged.
        direction: whether the first channels come from the previous frame and the last ones from the next (Eq. 3), or
            the other way round; ``"past_only"``: the first from the previous frame, and all others stay.
        place: what is shifted in a ResNet block: the input of its first convolution (the paper's), that of its second
            one, or with ``"block"`` its own input, so that the skip path carries it too.
        blocks: which ResNet blocks shift: ``"all"`` (the paper's), those of the ``"encoder"`` (``down_blocks`` and
            ``mid_block``), or those of the ``"decoder"`` (``up_blocks``).

    Raises:
        ValueError: for a fold below 2, an unknown value, or settings that leave a block nothing of the frame itself.
    """

    fold: int = 3
    padding: Padding = "zeros"
    direction: Direction = "first_from_past"
    place: Place = "conv1"
    blocks: Blocks = "all"

    def __post_init__(self) -> None:
        if not isinstance(self.fold, int) or self.fold < MIN_FOLD:
            raise ValueError(f"the shift's fold must be a whole number of {MIN_FOLD} or more, not {self.fold!r}")
        allowed = {"padding": PADDINGS, "direction": DIRECTIONS, "place": PLACES, "blocks": BLOCKS}
        for name, known in allowed.items():
            if (value := getattr(self, name)) not in known:
                words = ", ".join(f'"{each}"' for each in known)
                raise ValueError(f"the shift's {name} must be one of {words}, not {value!r}")
        if self.place == "block" and self.fold == MIN_FOLD and self.direction != "past_only":
            raise ValueError(
                'the shift\'s fold must be 3 or more where its place is "block": with 2 no channel of a frame itself '
                "would reach the block"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a pipeline's ``model_index.json``; :meth:`from_dict` reads them back.

        ``place`` and ``blocks`` are left out where they are the paper's, as in files from before there were any.
        """
        paper = {"place": "conv1", "blocks": "all"}
        return {name: value for name, value in asdict(self).items() if paper.get(name) != value}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ShiftConfig:
        """From plain values; missing settings are the paper's.

        Raises:
            ValueError: for an unknown setting or an invalid value.
        """
        known = [field.name for field in fields(cls)]
        if not isinstance(values, Mapping):
            raise ValueError(f"the shift is a dict with the settings {', '.join(known)}, not {values!r}")
        if unknown := sorted(set(values) - set(known)):
            raise ValueError(f"the shift has the settings {', '.join(known)}, and no {', '.join(unknown)}")
        return cls(**values)


def check_steps(steps: int, schedule: Mapping[str, Any], name: str = "num_inference_steps") -> None:
    """Refuse an invalid number of sampling steps.

    Args:
        steps: of the sampler.
        schedule: configuration of the scheduler.
        name: of the setting, for the message.

    Raises:
        ValueError: with the valid range.
    """
    # The solvers of higher order leave the last of their evenly spaced timesteps out.
    most = schedule["num_train_timesteps"] - ("solver_order" in schedule)
    # One step between both ends of the schedule would be its noiseless end alone.
    least = 2 if schedule.get("timestep_spacing") == "linspace" else 1
    if not least <= steps <= most:
        raise ValueError(f"{name} must lie between {least} and {most}, not {steps}")


def whole_number(value: Any, name: str) -> int:
    """A whole number that a user gave, of Python or of another library.

    Args:
        value: given.
        name: of the argument, for the message.

    Raises:
        ValueError: if it is none.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number, not {value!r}")
    return number


def method_name(*, shift: bool, attention: bool) -> str:
    """The temporal method of a model with these: one of ``METHODS``, or ``"latent-shift and latent-vdm"``."""
    methods = [shift and "latent-shift", attention and "latent-vdm"]
    return " and ".join(name for name in methods if name) or "none"


def check_guidance(scale: float, name: str = "guidance_scale") -> None:
    """Refuse a guidance scale that is negative or not finite.

    Args:
        scale: of the guidance.
        name: of the setting, for the message.

    Raises:
        ValueError: if it is.
    """
    if not (math.isfinite(scale) and scale >= 0):
        raise ValueError(f"{name} must be a finite number of 0 or more, not {scale}")


def default_chunk(num_frames: int, latent_pixels: int) -> int:
    """Frames of a video to work on at a time, if nobody says: all of up to 64, and 8 of a longer video.

    16 where latents are smaller than 32×32: fewer pixels make calculating slow. 8 is what takes no more memory than 64
    at once do (docs/memory.md).

    Args:
        num_frames: F.
        latent_pixels: h·w of a frame.
    """
    if num_frames <= _MOST_AT_ONCE:
        return num_frames
    return _CHUNK if latent_pixels >= _FEW_PIXELS else 2 * _CHUNK


def check_chunk(chunk: int, num_frames: int, name: str = "frame_chunk") -> None:
    """Refuse a chunk of frames that is empty or longer than the video.

    Args:
        chunk: frames at a time.
        num_frames: of the video.
        name: of the setting, for the message.

    Raises:
        ValueError: with the valid range.
    """
    if not isinstance(chunk, int) or isinstance(chunk, bool) or not 1 <= chunk <= num_frames:
        raise ValueError(f"{name} must be a whole number from 1 to the video's {num_frames} frames, not {chunk}")


def check_skip_offload(device: str, frame_chunk: int, num_frames: int, name: str = "offload_skips") -> None:
    """Refuse to offload skip connections (:mod:`latentshift.models.skip_offload`) where that has no effect.

    Args:
        device: of the U-Net, or its type.
        frame_chunk: frames in one call of it.
        num_frames: F of the video.
        name: of the setting, for the message.

    Raises:
        ValueError: on the CPU, or if all frames are in one call of the U-Net.
    """
    if device == "cpu":
        raise ValueError(
            f"{name} moves skip connections from a GPU's memory into that of the CPU, and this model is on the CPU: "
            "leave it out"
        )
    if frame_chunk == num_frames:
        raise ValueError(
            f"{name} is for videos that go through the U-Net in chunks of frames, and these {num_frames} frames go at "
            f"once: choose a {'--frame-chunk' if name.startswith('-') else 'frame_chunk'} below {num_frames}"
        )


def frame_position(frame: int, num_frames: int, name: str = "keyframes") -> int:
    """The number of a frame, 0 … F - 1, from one that may count from the end: -1 is the last.

    Args:
        frame: -F … F - 1.
        num_frames: F of the video.
        name: of what names the frame, for the message.

    Raises:
        ValueError: for a frame outside of the video.
    """
    if not -num_frames <= frame < num_frames:
        raise ValueError(
            f"{name} names frame {frame}, and the video has {num_frames}: choose from 0 to {num_frames - 1}, or from "
            f"-{num_frames} to -1 to count from the end"
        )
    return frame % num_frames


def check_extension(num_extensions: int, overlap: int, num_frames: int, *, options: bool = False) -> None:
    """Refuse an extension of a clip that adds nothing, or knows nothing of the clip.

    Args:
        num_extensions: N.
        overlap: K.
        num_frames: F of each call.
        options: whether they were given on the command line, for the message.

    Raises:
        ValueError: unless N is 1 or more and K from 1 to F - 1.
    """
    names = ("--extend", "--overlap") if options else ("num_extensions", "overlap")
    if num_extensions < 1:
        raise ValueError(f"{names[0]} must be 1 or more, not {num_extensions}")
    if not 1 <= overlap < num_frames:
        raise ValueError(
            f"{names[1]} must be from 1 to {num_frames - 1}, below the {num_frames} frames of a call, not {overlap}"
        )


def check_output_type(output_type: str) -> None:
    """Refuse an unknown type of frames.

    Raises:
        ValueError: with the known ones.
    """
    if output_type not in OUTPUT_TYPES:
        raise ValueError(f"output_type must be one of {', '.join(OUTPUT_TYPES)}, not {output_type!r}")


def check_strength(strength: float, name: str = "keyframe_strength") -> None:
    """Refuse a strength that is no share.

    Args:
        strength: of a keyframe, or of a change to a video.
        name: of the setting, for the message.

    Raises:
        ValueError: unless it is in [0, 1].
    """
    if isinstance(strength, bool) or not (isinstance(strength, Real) and 0 <= strength <= 1):
        raise ValueError(f"{name} must be a number from 0 to 1, not {strength!r}")


def steps_kept(steps: int, strength: float, name: str = "strength") -> int:
    """The last steps that a strength leaves of n: int(n · strength), as in diffusers' img2img.

    Args:
        steps: n ≥ 1.
        strength: in [0, 1].
        name: of the setting, for the message.

    Raises:
        ValueError: if a strength above 0 leaves none.
    """
    kept = min(int(steps * strength), steps)
    if kept == 0 and strength > 0:
        least = least_strength(steps)
        raise ValueError(f"{name} {strength:g} leaves none of {steps} steps: give 0, or {least:g} or more")
    return kept


def least_strength(steps: int) -> float:
    """The smallest strength, to three decimals, that leaves one of n steps."""
    return math.ceil(1000 / steps) / 1000


def check_noise_share(share: float, name: str = "noise_share") -> None:
    """Refuse a noise share that is negative or not finite.

    Args:
        share: a of the noise that frames share.
        name: of the setting, for the message.

    Raises:
        ValueError: with the valid range.
    """
    if not 0 <= share <= MAX_NOISE_SHARE:
        raise ValueError(f"{name} must be a number from 0 to {MAX_NOISE_SHARE:,.0f}, not {share}")


def check_training_size(size: int, scale: int, levels: int, name: str = "size") -> None:
    """Refuse a size of square frames that does not halve evenly down to the U-Net's lowest level.

    Args:
        size: side of the frames in pixels.
        scale: downsampling factor of the autoencoder.
        levels: resolution levels of the U-Net.
        name: of the setting, for the message.

    Raises:
        ValueError: with the valid sizes.
    """
    least = scale * 2 ** (levels - 1)
    if size % least:
        raise ValueError(f"{name} must be a multiple of {least} for this model, not {size}")


def check_frame_size(height: int, width: int, scale: int, levels: int, option: str | None = None) -> None:
    """Refuse a frame size that the autoencoder and the U-Net do not support.

    Args:
        height: of the frames in pixels.
        width: of the frames in pixels.
        scale: downsampling factor of the autoencoder.
        levels: resolution levels of the U-Net.
        option: of the command line that both were given by, as width x height, for the message.

    Raises:
        ValueError: with the valid sizes.
    """
    least = scale * 2 ** (levels - 1)  # one pixel is left at the U-Net's bottom
    if height < least or width < least or height % scale or width % scale:
        names = option or "height and width"
        given = f"{width}x{height}" if option else f"{height} and {width}"
        raise ValueError(f"{names} must be multiples of {scale} and {least} or more for this model, not {given}")
