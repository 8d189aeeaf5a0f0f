"""Latent-Shift: text to video with an image diffusion model and the temporal shift, in one file, for plain diffusers.

    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(FOLDER, trust_remote_code=True)  # runs this file
    frames = pipe("a red star circling on a navy background").frames[0]

Frames are folded into the batch of a stock ``UNet2DConditionModel``, and meet in one place alone: before the first
convolution of every ResNet block a part of the channels comes from the previous frame, and a part from the next (An et
al. 2023, Eq. 3). Needs torch, diffusers and transformers, and nothing of the package ``latentshift``, which has more:
long videos in chunks of frames, LoRAs, IP-Adapters, training. Legend of shapes: B videos, F frames, C channels, h × w
latent pixels, L tokens.
"""

from __future__ import annotations

import inspect
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel
from diffusers.utils import BaseOutput
from PIL import Image

PAPER_SHIFT = {"fold": 3, "padding": "zeros", "direction": "first_from_past", "place": "conv1", "blocks": "all"}
_NORMS = {"conv1": "norm1", "conv2": "norm2"}  # place -> the layer whose output goes there


def temporal_shift(x: torch.Tensor, num_frames: int, shift: dict[str, Any]) -> torch.Tensor:
    """Eq. 3 for (B·F, C, H, W): ⌊C / fold⌋ channels of the previous and of the next frame, the others of the frame."""
    channels, padding = x.shape[1], shift["padding"]
    share = channels // shift["fold"]
    other = 0 if shift["direction"] == "past_only" else share
    z = x.unflatten(0, (-1, num_frames))
    first, middle, last = z.split([share, channels - share - other, other], dim=2)

    def beyond(end: torch.Tensor, other_end: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(end) if padding == "zeros" else end if padding == "replicate" else other_end

    def from_past(part: torch.Tensor) -> torch.Tensor:
        return torch.cat([beyond(part[:, :1], part[:, -1:]), part[:, :-1]], dim=1)

    def from_future(part: torch.Tensor) -> torch.Tensor:
        return torch.cat([part[:, 1:], beyond(part[:, -1:], part[:, :1])], dim=1)

    if shift["direction"] == "first_from_future":
        first, last = from_future(first), from_past(last)
    else:
        first, last = from_past(first), from_future(last)
    return torch.cat([first, middle, last], dim=2).flatten(0, 1)


def mix_noise(values: torch.Tensor, noise_share: float, inverse: bool = False) -> torch.Tensor:
    """Independent noise (B, F, C, h, w) as noise that frames share (Ge et al. 2023), or back."""
    frames = values.shape[1]
    if noise_share == 0 or frames == 1:
        return values
    own_variance = 1 / (1 + noise_share**2)
    own, mean = math.sqrt(own_variance), math.sqrt(own_variance + frames * (1 - own_variance))
    middle = values.mean(dim=1, keepdim=True)
    return (values - middle) * (1 / own if inverse else own) + middle * (1 / mean if inverse else mean)


def video_generators(generator: torch.Generator | list[torch.Generator] | None, count: int) -> list[torch.Generator]:
    """A random stream for each video; one generator is the first video's, and draws the seeds of the others.

    Raises:
        ValueError: for a list of another length, or of anything else.
    """
    if generator is None:  # torch.manual_seed decides
        seeds = [int(torch.randint(2**63 - 1, ())) for _ in range(count)]
        return [torch.Generator().manual_seed(seed) for seed in seeds]
    if isinstance(generator, torch.Generator):
        own = generator.clone_state()
        seeds = [int(torch.randint(2**63 - 1, (), generator=own, device=own.device)) for _ in range(count - 1)]
        return [generator, *(torch.Generator(own.device).manual_seed(seed) for seed in seeds)]
    generators = generator if isinstance(generator, list) else [generator]
    if len(generators) != count or not all(isinstance(each, torch.Generator) for each in generators):
        raise ValueError(f"generator must be a torch.Generator or a list of {count}, not {generator!r}")
    return generators


@dataclass
class LatentShiftPipelineOutput(BaseOutput):
    """``frames``: B lists of F images; or (B, F, H, W, 3), (B, F, 3, H, W) or (B, F, C, h, w) by ``output_type``."""

    frames: Any


def check_finite(values: torch.Tensor, part: str) -> None:
    """Refuse what would make black frames."""
    if not torch.isfinite(values).all():
        raise ValueError(f"the {part} made values that are not finite; try another dtype, or less guidance")


class LatentShiftPipeline(DiffusionPipeline):
    """Text to video; see the file's description.

    Args:
        vae, text_encoder, tokenizer, unet, scheduler: of the image model.
        text_encoder_2, tokenizer_2: SDXL's.
        shift: settings of the temporal shift; None: frames are independent images.
        num_frames: default number of frames.
        fps: frame rate that the model was trained at.
        guidance_scale: default scale of classifier-free guidance.
        num_inference_steps: default number of steps of the sampler.
        noise_share: of the noise that frames share.
        force_zeros_for_empty_prompt: zeros in place of the empty sentence's embedding without a negative prompt.
    """

    model_cpu_offload_seq = "text_encoder->text_encoder_2->unet->vae"
    _optional_components = ["text_encoder_2", "tokenizer_2"]  # noqa: RUF012

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: torch.nn.Module,
        tokenizer: Any,
        unet: UNet2DConditionModel,
        scheduler: Any,
        text_encoder_2: torch.nn.Module | None = None,
        tokenizer_2: Any | None = None,
        shift: dict[str, Any] | None = PAPER_SHIFT,
        num_frames: int = 16,
        fps: int = 8,
        guidance_scale: float = 7.5,
        num_inference_steps: int = 100,
        noise_share: float = 0.0,
        force_zeros_for_empty_prompt: bool = False,
    ) -> None:
        super().__init__()
        self.register_modules(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler)
        self.register_modules(text_encoder_2=text_encoder_2, tokenizer_2=tokenizer_2)
        self.register_to_config(shift=shift, num_frames=num_frames, fps=fps, guidance_scale=guidance_scale)
        self.register_to_config(num_inference_steps=num_inference_steps)
        self.register_to_config(noise_share=noise_share, force_zeros_for_empty_prompt=force_zeros_for_empty_prompt)

    @contextmanager
    def _shifted(self, num_frames: int) -> Iterator[None]:
        """Inside, calls of the U-Net in this thread shift videos of F frames; afterwards it is a stock one again.

        Other pipelines may have the same U-Net: ``Pipe(**pipe.components)`` and ``from_pipe`` make such ones.
        """
        handles: list[Any] = []
        shift, thread = {**PAPER_SHIFT, **(self.config.shift or {})}, threading.get_ident()

        def shift_input(_: Any, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            here = threading.get_ident() == thread
            return (temporal_shift(args[0], num_frames, shift), *args[1:]) if here else None

        def shift_output(_: Any, args: tuple[Any, ...], out: torch.Tensor) -> torch.Tensor | None:
            return temporal_shift(out, num_frames, shift) if threading.get_ident() == thread else None

        try:
            for name, block in self.unet.named_modules() if self.config.shift is not None else ():
                part = "decoder" if "up_blocks" in name.split(".") else "encoder"
                if type(block).__name__ != "ResnetBlock2D" or shift["blocks"] not in ("all", part):
                    continue
                if shift["place"] == "block":
                    handles.append(block.register_forward_pre_hook(shift_input))
                else:
                    handles.append(getattr(block, _NORMS[shift["place"]]).register_forward_hook(shift_output))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _check_parts(self, num_frames: int) -> None:
        """Raise a ValueError for a U-Net that can't be shifted, or a scheduler that makes no videos."""
        if self.config.shift is not None:
            if hasattr(self.unet, "_orig_mod") or self.unet._compiled_call_impl is not None:
                raise ValueError("this file can't shift a U-Net that torch.compile has compiled; load it again without")
            if getattr(self.unet, "_frame_context", None) is not None:
                raise ValueError(
                    "latentshift has shifted this U-Net already; make the video with latentshift's pipeline"
                )
        kind, config, share = type(self.scheduler), self.scheduler.config, self.config.noise_share
        accepted = inspect.signature(kind.__init__).parameters
        clipping = [name for name in ("clip_sample", "thresholding") if name in accepted and config.get(name)]
        if share > 0 and num_frames > 1 and clipping:
            raise ValueError(
                f"the scheduler clips the predicted latents ({clipping[0]}), and that can't be done where frames share "
                f"noise (noise_share {share:g}); set {clipping[0]} to false in the scheduler's configuration"
            )
        if kind.__name__ == "DPMSolverSDEScheduler":
            raise ValueError("DPMSolverSDEScheduler draws noise that no seed decides; choose another scheduler")

    @property
    def vae_scale_factor(self) -> int:
        """Pixels a latent pixel."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    def _encode(self, sentence: str | None, device: torch.device) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Tokens (1, L, D), and SDXL's pooled embedding (1, W), of a sentence; None: of none."""
        pairs = [(self.text_encoder, self.tokenizer), (self.text_encoder_2, self.tokenizer_2)]
        pairs = [(encoder, tokenizer) for encoder, tokenizer in pairs if encoder is not None]
        length = min(*(e.config.max_position_embeddings for e, _ in pairs), *(t.model_max_length for _, t in pairs))
        ids = [
            tokenizer(
                [sentence or ""], padding="max_length", truncation=True, max_length=length, return_tensors="pt"
            ).input_ids.to(device)
            for _, tokenizer in pairs
        ]
        if len(pairs) == 1:
            tokens, pooled = self.text_encoder(ids[0])[0], None
        else:
            outputs = [
                encoder(each, output_hidden_states=True, return_dict=True)
                for (encoder, _), each in zip(pairs, ids, strict=True)
            ]
            tokens = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
            pooled = outputs[-1].text_embeds
        if sentence is None and self.config.force_zeros_for_empty_prompt:
            tokens, pooled = tokens * 0, None if pooled is None else pooled * 0
        return tokens.to(self.unet.dtype), None if pooled is None else pooled.to(self.unet.dtype)

    @torch.no_grad()
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
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        eta: float = 0.0,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> LatentShiftPipelineOutput | tuple[Any]:
        """Generate a video for each prompt, or an image with ``num_frames=1``.

        Args:
            prompt: a sentence or a list of B.
            negative_prompt: what to avoid: a sentence for all of them, or a list of B. None: nothing.
            num_frames: F ≥ 1; None: the model's.
            height, width: of the frames in pixels; None: the model's.
            num_inference_steps: steps of the sampler; None: the model's.
            guidance_scale: 1 turns guidance off; None: the model's.
            generator: one for each video; or one, which is the first video's and draws the seeds of the others.
            latents: independent noise (B, F, C, h, w) to start from.
            eta: DDIM's.
            output_type: ``"pil"``, ``"np"``, ``"pt"`` or ``"latent"``.
            return_dict: False returns a tuple.

        Raises:
            ValueError: for an argument that does not fit, or if the model's output is not finite.
        """
        # 1. Check the inputs and fill in defaults
        prompts = [prompt] if isinstance(prompt, str) else prompt
        if not isinstance(prompts, list) or not prompts or not all(isinstance(each, str) for each in prompts):
            raise ValueError("prompt must be a sentence or a list of sentences")
        avoid = negative_prompt if isinstance(negative_prompt, list) else [negative_prompt] * len(prompts)
        if len(avoid) != len(prompts) or not all(each is None or isinstance(each, str) for each in avoid):
            raise ValueError(f"negative_prompt must be a sentence or a list of {len(prompts)}, one for each prompt")
        num_frames = self.config.num_frames if num_frames is None else num_frames
        if output_type not in ("pil", "np", "pt", "latent"):
            raise ValueError(f"output_type must be pil, np, pt or latent, not {output_type!r}")
        scale = self.vae_scale_factor
        side = self.unet.config.sample_size * scale
        height, width = (side if each is None else each for each in (height, width))
        guidance = self.config.guidance_scale if guidance_scale is None else guidance_scale
        steps = self.config.num_inference_steps if num_inference_steps is None else num_inference_steps
        counts = {"num_frames": num_frames, "num_inference_steps": steps, "height": height, "width": width}
        for name, value in counts.items():
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a whole number of 1 or more, not {value!r}")
        if isinstance(guidance, bool) or not (isinstance(guidance, (int, float)) and 0 <= guidance < float("inf")):
            raise ValueError(f"guidance_scale must be a finite number of 0 or more, not {guidance!r}")
        if guidance == 1 and any(avoid):
            raise ValueError(
                "negative_prompt has no effect without guidance, with guidance_scale 1: leave one of them out"
            )
        if not 0 <= eta <= 1 or (eta > 0 and "eta" not in inspect.signature(self.scheduler.step).parameters):
            raise ValueError(f"eta must be 0 to 1, and 0 with a scheduler that has none, not {eta}")
        self._check_parts(num_frames)
        if height % scale or width % scale:
            raise ValueError(f"height and width must be multiples of {scale}, not {height} and {width}")
        device, count = self._execution_device, len(prompts)

        # 2. Text
        positive = [self._encode(each, device) for each in prompts]
        encoded = {each: self._encode(each, device) for each in dict.fromkeys(avoid)}
        negative = [encoded[each] for each in avoid]

        # 3. Noise, one random stream for each video
        generators = video_generators(generator, count)
        shape = (num_frames, self.unet.config.in_channels, height // scale, width // scale)
        if latents is None:
            drawn = [torch.randn(*shape, generator=each, device=each.device).to(device) for each in generators]
            latents = torch.stack(drawn)
        elif tuple(latents.shape) != (count, *shape):
            raise ValueError(f"latents must have the shape {(count, *shape)}, not {tuple(latents.shape)}")

        # 4. Denoise, video by video, in float32 but for the U-Net
        with self.progress_bar(total=steps * count) as bar:
            videos = [
                self._denoise(noise.to(device, torch.float32)[None], text, other, each, steps, guidance, eta, bar)
                for noise, text, other, each in zip(latents, positive, negative, generators, strict=True)
            ]
        made = torch.cat(videos)
        check_finite(made, "U-Net")

        # 5. Decode
        frames: Any = made if output_type == "latent" else self._decode(made)
        if output_type in ("pil", "np"):
            frames = frames.permute(0, 1, 3, 4, 2).cpu().numpy()
        if output_type == "pil":
            frames = [[Image.fromarray(np.uint8(frame * 255 + 0.5)) for frame in video] for video in frames]
        self.maybe_free_model_hooks()
        return LatentShiftPipelineOutput(frames=frames) if return_dict else (frames,)

    def _denoise(
        self,
        latents: torch.Tensor,
        positive: tuple[torch.Tensor, torch.Tensor | None],
        negative: tuple[torch.Tensor, torch.Tensor | None],
        generator: torch.Generator,
        steps: int,
        guidance: float,
        eta: float,
        bar: Any,
    ) -> torch.Tensor:
        """The latents (1, F, C, h, w) of one video from its noise."""
        share, num_frames = self.config.noise_share, latents.shape[1]
        texts = [positive] if guidance == 1 else [negative, positive]
        tokens = torch.cat([tokens for tokens, _ in texts]).repeat_interleave(num_frames, dim=0)
        options: dict[str, Any] = {}
        if positive[1] is not None:
            size = (latents.shape[-2] * self.vae_scale_factor, latents.shape[-1] * self.vae_scale_factor)
            sizes = torch.tensor([[*size, 0, 0, *size]], device=latents.device, dtype=torch.float32)
            pooled = torch.cat([each for _, each in texts if each is not None]).repeat_interleave(num_frames, dim=0)
            options["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": sizes.expand(len(pooled), -1)}
        self.scheduler.set_timesteps(steps, device=latents.device)
        accepted = inspect.signature(self.scheduler.step).parameters
        given = {"generator": generator, "eta": eta}
        extra = {name: value for name, value in given.items() if name in accepted}
        latents = latents * self.scheduler.init_noise_sigma
        for timestep in self.scheduler.timesteps:
            noisy = mix_noise(self.scheduler.scale_model_input(latents, timestep), share)
            frames = torch.cat([noisy] * len(texts)).flatten(0, 1).to(self.unet.dtype)
            with self._shifted(num_frames):
                predicted = self.unet(frames, timestep, encoder_hidden_states=tokens, return_dict=False, **options)[0]
            *avoided, wanted = predicted.float().unflatten(0, (len(texts), num_frames))
            guided = avoided[0] + guidance * (wanted - avoided[0]) if avoided else wanted
            predicted = mix_noise(guided[None], share, inverse=True)
            latents = self.scheduler.step(predicted, timestep, latents, return_dict=False, **extra)[0]
            bar.update()
        return mix_noise(latents, share)

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Frames (B, F, 3, H, W) in [0, 1], decoded one by one."""
        config, dtype = self.vae.config, self.vae.dtype
        raw = latents.flatten(0, 1)
        if config.latents_mean is None:
            raw = raw / config.scaling_factor
        else:
            mean, deviation = (
                raw.new_tensor(each)[:, None, None] for each in (config.latents_mean, config.latents_std)
            )
            raw = raw * deviation / config.scaling_factor + mean
        try:
            if dtype == torch.float16:  # whose range SDXL's autoencoder leaves
                self.vae.to(torch.float32)
            frames = torch.cat([self.vae.decode(each[None].to(self.vae.dtype), return_dict=False)[0] for each in raw])
        finally:
            if self.vae.dtype != dtype:  # else diffusers warns of a cast that casts nothing
                self.vae.to(dtype)
        check_finite(frames, "autoencoder")
        return (frames.float().clamp(-1, 1) / 2 + 0.5).unflatten(0, latents.shape[:2])
