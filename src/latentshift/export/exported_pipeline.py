"""Videos from an export's folder: ``ExportedPipeline``, text to pixels with the exported graphs.

The scheduler, guidance and noise are the pipeline's own, so a seed gives the video that PyTorch makes, to the graphs'
rounding. Legend of shapes: P prompts, B videos, F frames, C latent channels, h × w latent pixels, H × W pixels, L
tokens, D width of the text encoders together.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from latentshift.diffusion.condition import TextCondition
from latentshift.diffusion.guidance import check_rescale, with_guidance
from latentshift.diffusion.sampling import sample, video_generators
from latentshift.diffusion.schedulers import check_eta, check_scheduler, set_timesteps
from latentshift.export.graph import Graph, open_graph
from latentshift.export.manifest import (
    RUNTIMES,
    ExportedSettings,
    ExportManifest,
    PartName,
    check_files,
    check_libraries,
    open_manifest,
)
from latentshift.models.call.arguments import check_sampling_arguments, read_noise
from latentshift.models.call.exclusive import one_call_at_a_time
from latentshift.models.conditioning.prompts import Prompts
from latentshift.models.conditioning.text import tokenize
from latentshift.models.decoded_frames import FrameDecoder, LatentShiftPipelineOutput, check_finite
from latentshift.progress import is_shown
from latentshift.user_input.argument_types import checked_types
from latentshift.user_input.bounded_read import load_json_settings
from latentshift.user_input.error_text import one_line, printable


class ExportedText:
    """The exported text encoders and their tokenizers.

    Attributes:
        tokenizers: one for each encoder.
        length: L, tokens of every prompt.
    """

    def __init__(self, graph: Graph, tokenizers: Sequence[PreTrainedTokenizerBase], length: int, zero_empty: bool):
        self.tokenizers = list(tokenizers)
        self.length = length
        self._graph = graph
        self._zero_empty = zero_empty

    def encode(self, prompts: Sequence[str | None]) -> TextCondition:
        """The text conditions of prompts, each distinct one encoded once; None is no prompt.

        As :meth:`latentshift.models.conditioning.text.TextEncoders.encode`.
        """
        known: dict[str | None, TextCondition] = {}
        for prompt in prompts:
            if prompt not in known:
                token_ids = tokenize(self.tokenizers, [prompt or ""], self.length)
                tokens, *pooled = self._graph(token_ids=token_ids)
                text = TextCondition(tokens, pooled[0] if pooled else None)
                known[prompt] = text.masked(torch.tensor([prompt is None and self._zero_empty]))
        return TextCondition.cat([known[prompt] for prompt in prompts])


class ExportedPipeline(FrameDecoder):
    """Text to video with an export.

    Args:
        folder: that ``latentshift export`` wrote.
        target: that it was made for; named here because an AOTInductor export is machine code, which opening it runs.
        dtype: that its graphs are run in, one that the target's runtime has.

    Attributes:
        config: the settings of the pipeline that was exported.
        scheduler: a diffusers scheduler; may be replaced, as :func:`latentshift.diffusion.samplers.make_sampler` does.
        text_encoders: of it.
        device: the CPU.
        dtype: that the graphs are run in.

    Raises:
        ValueError: if the folder is no export for the target, a file of it is missing, changed or not listed, a library
            is missing, a graph can't be opened on this machine, or a tokenizer can't be, or asks to run code of its
            own.
    """

    own_pipeline_hint = "open the export once more for each thread"

    def __init__(self, folder: str | Path, target: str, dtype: torch.dtype = torch.float32) -> None:
        folder = Path(folder)
        self.manifest = manifest = open_manifest(folder, target)
        name = str(dtype).removeprefix("torch.")
        dtypes = RUNTIMES[manifest.target].dtypes
        if name not in dtypes:
            raise ValueError(f"{target} exports run in {' or '.join(dtypes)}, and not in {name}")
        check_libraries(manifest.target, "the target", to_run=True)
        _check_cpu(folder, manifest)
        check_files(folder, manifest)
        self.config: ExportedSettings = manifest.settings
        self.device, self.dtype = torch.device("cpu"), dtype
        self.scheduler = _load_scheduler(folder / "scheduler")
        tokenizers = [_load_tokenizer(folder / each) for each in manifest.tokenizers]
        self._graphs: dict[PartName, Graph] = {
            part: open_graph(manifest.target, folder / each.file, each.inputs, name)
            for part, each in manifest.parts.items()
        }
        self.text_encoders = ExportedText(
            self._graphs["text_encoder"], tokenizers, manifest.tokens, manifest.settings.force_zeros_for_empty_prompt
        )
        self._progress: dict[str, Any] = {"disable": not is_shown()}

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The first text encoder's."""
        return self.text_encoders.tokenizers[0]

    @property
    def vae_scale_factor(self) -> int:
        """Downsampling factor of the autoencoder."""
        return self.manifest.scale

    def set_progress_bar_config(self, **kwargs: Any) -> None:
        """Keywords of tqdm's bar, as in diffusers."""
        self._progress = kwargs

    @torch.no_grad()
    @checked_types
    @one_call_at_a_time
    def __call__(
        self,
        prompt: str | list[str],
        *,
        negative_prompt: str | list[str] | None = None,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_rescale: float = 0.0,
        eta: float = 0.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> LatentShiftPipelineOutput | tuple[Any]:
        """Generate videos, one for each of P prompts.

        The arguments are a part of those of :meth:`latentshift.LatentShiftPipeline.__call__`; the output is the same.

        Raises:
            ValueError: for an invalid argument, or a frame count or size that the export does not have.
            NotFiniteError: if a graph's output is not finite.
            RuntimeError: if another call is running.
        """
        prompts = Prompts.of(prompt, negative_prompt)
        if prompts.change:
            raise ValueError("an export takes one text for all frames of a video: give sentences, and no dicts")
        manifest, config = self.manifest, self.config
        num_frames = config.num_frames if num_frames is None else num_frames
        guidance_scale = config.guidance_scale if guidance_scale is None else guidance_scale
        num_inference_steps = config.num_inference_steps if num_inference_steps is None else num_inference_steps
        check_sampling_arguments(
            self.scheduler, config.noise_share, num_frames, num_inference_steps, guidance_scale, output_type
        )
        manifest.check_frames(num_frames)
        manifest.check_size(height or manifest.height, width or manifest.width)
        guidance = 1.0 if manifest.is_distilled else guidance_scale
        prompts.check_negative(guidance_scale, distilled=manifest.is_distilled)
        check_rescale(guidance_rescale, guidance)
        check_eta(self.scheduler, eta)
        sizes = (manifest.height, manifest.width, 0, 0, manifest.height, manifest.width)
        text = self.text_encoders.encode(prompts.sentences or []).with_sizes(sizes)
        negative = self.text_encoders.encode(prompts.negatives or []).with_sizes(sizes)

        generators = video_generators(generator, len(prompts))
        side = manifest.height // manifest.scale, manifest.width // manifest.scale
        shape = (num_frames, manifest.latent_channels, *side)
        noise = read_noise(latents, shape, generators, self.device)
        set_timesteps(self.scheduler, num_inference_steps, None, None, self.device)
        latents = noise.float() * self.scheduler.init_noise_sigma
        denoise = partial(self._denoise, guidance_scale=guidance_scale)
        denoiser = with_guidance(denoise, text, negative, guidance, videos_per_call=1, rescale=guidance_rescale)
        from tqdm import tqdm

        with tqdm(total=len(self.scheduler.timesteps), **self._progress) as bar:

            def on_step(step: int, timestep: Tensor, latents: Tensor) -> Tensor:
                bar.update()
                return latents

            latents = sample(
                denoiser,
                self.scheduler,
                latents,
                generators,
                eta=eta,
                noise_share=config.noise_share,
                on_step=on_step,
            )
        frames = self._frames_of(latents, output_type)
        return LatentShiftPipelineOutput(frames=frames) if return_dict else (frames,)

    def _denoise(self, latents: Tensor, timestep: Tensor, condition: TextCondition, *, guidance_scale: float) -> Tensor:
        """The U-Net's prediction (B, F, C, h, w); ``guidance_scale`` is for a guidance-distilled one."""
        manifest = self.manifest
        if manifest.frames is not None and len(latents) > 1:  # its graph takes one video
            rows = zip(latents.split(1), condition.split(1), strict=True)
            each = [self._denoise(video, timestep, text, guidance_scale=guidance_scale) for video, text in rows]
            return torch.cat(each)
        given: dict[str, Any] = {"latents": latents, "timestep": timestep.float(), "tokens": condition.tokens}
        if manifest.has_sizes:
            given |= {"pooled": condition.pooled, "sizes": condition.sizes}
        if manifest.is_distilled:
            given["guidance_scale"] = torch.tensor(guidance_scale)
        return self._graphs["unet"](**given)[0]

    @torch.no_grad()
    def decode(self, latents: Tensor, decode_chunk_size: int | None = None) -> Tensor:
        """Decode scaled latents (B, F, C, h, w) to frames (B, F, 3, H, W) in [-1, 1], one video at a time.

        Args:
            latents: of B videos.
            decode_chunk_size: frames at a time; None: all of a video.

        Raises:
            NotFiniteError: if the decoder's output is not finite.
        """
        size = decode_chunk_size or latents.shape[1]
        decoder = self._graphs["decoder"]
        videos = [torch.cat([decoder(latents=chunk)[0] for chunk in video.split(size)]) for video in latents]
        frames = torch.stack(videos)
        check_finite(frames, "autoencoder")
        return frames.clamp(-1, 1)


def _check_cpu(folder: Path, manifest: ExportManifest) -> None:
    """Refuse machine code for other instructions than this CPU's: opening it could end the process."""
    here = torch.backends.cpu.get_cpu_capability()
    if manifest.target == "aot" and manifest.cpu_capability != here:
        raise ValueError(
            f"{folder} is machine code for a CPU with {manifest.cpu_capability}, and this one has {here}: export the "
            "model again on this machine"
        )


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    file = folder / "tokenizer_config.json"
    if "auto_map" in load_json_settings(file):
        raise ValueError(
            f"{file} asks to run code of its own (auto_map), which no export of latentshift does: use one that you, or "
            "somebody you trust, made"
        )
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # transformers and tokenizers have many kinds
        reason = printable(one_line(error))
        raise ValueError(f"the tokenizer {folder} can't be opened ({reason}): export the model again") from error
    return tokenizer


def _load_scheduler(folder: Path) -> Any:
    file = folder / "scheduler_config.json"
    config = load_json_settings(file)
    kind = str(config.get("_class_name"))
    try:
        check_scheduler(kind, config)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    return getattr(diffusers, kind).from_config(config)
