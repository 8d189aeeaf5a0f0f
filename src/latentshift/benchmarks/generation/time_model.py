"""What one process measures of one video model, each to be called in a process of its own.

Weights are random and of the wanted dtype on the wanted device from the start. Seconds are of the wall, and end when
the device has finished. Legend of shapes: B videos, F frames, C latent channels, h × w latent pixels.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL

from latentshift.benchmarks.generation.image_base import ImageBase, open_base
from latentshift.benchmarks.generation.pass_profile import profile_kinds
from latentshift.benchmarks.generation.peers import VideoModel, build_video_model
from latentshift.benchmarks.generation.settings import COMPILED, FROZEN, GenerationSettings
from latentshift.benchmarks.peak_memory import can_measure_peak, forget_peak, peak
from latentshift.diffusion.guidance import with_guidance
from latentshift.diffusion.sampling import initial_noise, sample
from latentshift.models.autoencoder import decode_videos
from latentshift.models.conditioning.text import TextEncoders
from latentshift.models.conditioning.text_projection import project_text_once
from latentshift.pipeline import open_pipeline

PROMPT = "a red star circling on a navy background"


@dataclass(frozen=True)
class Timing:
    """Of the same thing done again and again in one process.

    Attributes:
        first: seconds of the first time, when libraries choose kernels and take their memory.
        later: of each other time, one or more.
        peak: bytes at the peak over all of them; of the whole process on the CPU; None where the system does not tell.
    """

    first: float
    later: tuple[float, ...]
    peak: int | None


@dataclass(frozen=True)
class PassTiming:
    """Of one video model's U-Net in one process.

    Attributes:
        timing: of its passes.
        kinds: seconds of one more pass by kind of operator; None if it was not profiled.
    """

    timing: Timing
    kinds: dict[str, float] | None


@dataclass(frozen=True)
class Start:
    """Of a saved model, in a process that has imported everything.

    Attributes:
        load: seconds to read the weights and put them on the device.
        first: of the first video.
        later: of the same video again.
    """

    load: float
    first: float
    later: float


@torch.no_grad()
def time_passes(settings: GenerationSettings, name: str) -> PassTiming:
    """Passes of a video model's U-Net as a step takes them: with guidance over two videos, else over one.

    If the settings say so, one more pass is profiled afterwards.
    """
    device = prepare(settings)
    base = open_base(settings.base, settings.size)
    model = _build_to_run(settings, base, name)
    with building(settings):
        latents = torch.randn(settings.texts, *base.latent_shape(settings.num_frames))
        text = base.random_text(settings.texts)
    timestep = torch.tensor(500, device=device)

    def predict() -> torch.Tensor:
        return model(latents, timestep, text)

    timing = repeat(predict, settings)
    # In compiled code several kinds of operators are one.
    profiled = settings.profile and name not in COMPILED
    return PassTiming(timing, profile_kinds(predict, device) if profiled else None)


@torch.no_grad()
def time_text(settings: GenerationSettings) -> Timing:
    """The text encoders on the prompts and, with guidance, the empty sentences."""
    device = prepare(settings)
    encoders = build_text(settings, open_base(settings.base, settings.size))
    prompts = [PROMPT, *[""][: settings.texts - settings.videos]] * settings.videos
    return repeat(lambda: encoders.encode(prompts, device), settings)


@torch.no_grad()
def time_decoding(settings: GenerationSettings) -> Timing:
    """The autoencoder's decoder on the videos of a call, as the pipeline calls it."""
    prepare(settings)
    base = open_base(settings.base, settings.size)
    autoencoder = build_autoencoder(settings, base)
    with building(settings):
        latents = torch.randn(settings.videos, *base.latent_shape(settings.num_frames))
    return repeat(lambda: decode_videos(autoencoder, latents, settings.decoded_at_once), settings)


@torch.no_grad()
def time_video(settings: GenerationSettings, name: str) -> Timing:
    """Whole videos, from text to pixels, after those of a single step, which count as the first time."""
    prepare(settings)
    base = open_base(settings.base, settings.size)
    encoders, autoencoder = build_text(settings, base), build_autoencoder(settings, base)
    model = _build_to_run(settings, base, name)
    return time_steps(lambda steps: _make_video(settings, base, encoders, model, autoencoder, steps), settings)


def time_steps(make: Callable[[int], object], settings: GenerationSettings) -> Timing:
    """A video of as many steps as it is called with: of one, which counts as the first time, and then of all."""
    device = torch.device(settings.device)
    known = can_measure_peak(device)
    if known:
        forget_peak(device)
    first, later = (_seconds(partial(make, steps), device) for steps in (1, settings.steps))
    return Timing(first, (later,), peak(device) if known else None)


def time_start(settings: GenerationSettings) -> Start:
    """Load the saved model itself, and make the same video twice with its own pipeline."""
    device = prepare(settings)
    begun = time.perf_counter()
    pipeline = open_pipeline(settings.base, dtype=getattr(torch, settings.dtype)).to(device)
    _synchronize(device)
    load = time.perf_counter() - begun
    pipeline.set_progress_bar_config(disable=True)

    def make() -> None:
        pipeline(
            PROMPT,
            num_frames=settings.num_frames,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance,
            height=settings.size,
            width=settings.size,
            generator=torch.Generator().manual_seed(0),
        )

    return Start(load, _seconds(make, device), _seconds(make, device))


def _make_video(
    settings: GenerationSettings,
    base: ImageBase,
    encoders: TextEncoders,
    model: VideoModel,
    autoencoder: AutoencoderKL,
    steps: int,
) -> None:
    """As ``LatentShiftPipeline`` does, with another U-Net in its place."""
    device, dtype = torch.device(settings.device), getattr(torch, settings.dtype)
    text, negative = (
        encoders.encode([prompt] * settings.videos, device).to(device, dtype).with_sizes(base.sizes)
        for prompt in (PROMPT, "")
    )
    generators = [torch.Generator().manual_seed(seed) for seed in range(settings.videos)]
    latents = initial_noise(base.latent_shape(settings.num_frames), generators, device)
    base.scheduler.set_timesteps(steps, device=device)
    denoiser = with_guidance(
        lambda noisy, timestep, text: model(noisy.to(dtype), timestep, text).float(),
        text,
        negative,
        settings.guidance,
    )
    with project_text_once():
        latents = sample(denoiser, base.scheduler, latents, generators)
    decode_videos(autoencoder, latents, settings.decoded_at_once).clamp(-1, 1).float().cpu()


def _build_to_run(settings: GenerationSettings, base: ImageBase, name: str) -> VideoModel:
    with building(settings):
        model = build_video_model(name, base.unet, settings.num_frames)
    if name in COMPILED:
        torch._inductor.config.freezing = name in FROZEN  # of this process
        model.unet.compile(dynamic=False)  # in its first call
    return model


def build_text(settings: GenerationSettings, base: ImageBase) -> TextEncoders:
    """The base's text encoders with random weights, and their tokenizers."""
    with building(settings):
        encoders = [type(each)(each.config).eval() for each in base.text_encoders]
    return TextEncoders(encoders, base.tokenizers)


def build_autoencoder(settings: GenerationSettings, base: ImageBase) -> AutoencoderKL:
    """The base's autoencoder with random weights."""
    with building(settings):
        return AutoencoderKL.from_config(base.vae.config).eval()


def prepare(settings: GenerationSettings) -> torch.device:
    """The device to calculate on, with the settings' threads, a fixed seed of the weights, and quiet libraries."""
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message="Dynamo detected a call to a `functools.lru_cache`")  # in diffusers
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    return torch.device(settings.device)


@contextmanager
def building(settings: GenerationSettings) -> Iterator[None]:
    """Inside, new tensors are on the device and of the dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, settings.dtype))
    try:
        with torch.device(settings.device):
            yield
    finally:
        torch.set_default_dtype(before)


def repeat(call: Callable[[], object], settings: GenerationSettings) -> Timing:
    """Time a call once, and then again, once or until the settings' time has passed."""
    device = torch.device(settings.device)
    known = can_measure_peak(device)
    if known:
        forget_peak(device)
    first = _seconds(call, device)
    later = [_seconds(call, device)]
    while sum(later) < settings.repeat_seconds:
        later.append(_seconds(call, device))
    return Timing(first, tuple(later), peak(device) if known else None)


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    call()
    _synchronize(device)
    return time.perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
