"""What a pipeline has for one video over several processes; the work itself is in the modules beside this one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from latentshift.models.denoiser import is_guidance_distilled

if TYPE_CHECKING:
    from latentshift.frame_parallel.ranks import FrameRanks
    from latentshift.frame_parallel.share import FrameShare


class FrameParallelMixin:
    """``enable_frame_parallel``, for a pipeline."""

    unet: Any
    config: Any
    _execution_device: Any
    _frame_ranks: FrameRanks | None = None
    _gathers = True

    @property
    def frame_ranks(self) -> FrameRanks | None:
        """The processes that each call is split over, and what this one has sent; None: this process alone."""
        return self._frame_ranks

    def enable_frame_parallel(
        self,
        group: Any = None,
        *,
        guidance_parallel: bool = False,
        gather: bool = True,
        timeout: float = 600.0,
    ) -> None:
        """Make each video of the next calls on several processes, which have a part of its frames each.

        To be called by all processes of the group, with the model on its device; and so is each call of the pipeline
        then, with the same arguments and a generator of the same seed. The video is the one that a single process
        makes, but for rounding. In every ResNet block of a pass a process hands the channels of one frame that the
        shift takes to each neighbour, while it works on other frames; a call begins with a comparison of what the
        processes were given, and ends with the gathering of what they made. Nothing else crosses.

        A callback sees this process's frames, and is to stop the call in all processes or in none. After an exception
        in one of them the others raise one too; the processes are to be ended then.

        Args:
            group: of torch.distributed, which is initialised; None: all processes.
            guidance_parallel: half of the processes predict for the prompt and half for what to avoid, and exchange
                that in each pass; for calls with guidance.
            gather: calls return the whole video in the group's first process, and None in place of frames in the
                others; False: each returns its own frames.
            timeout: seconds that a process waits for another, which is the limit on noticing one that hangs.

        Raises:
            ValueError: for a wrong argument, without torch.distributed, or on a device that is not a CPU or CUDA.
            latentshift.process_group.RankError: if a process does not come. Calls raise it too, if a process
                ends or doesn't answer in time.
        """
        from latentshift.frame_parallel.ranks import FrameRanks

        self._frame_ranks = FrameRanks(
            group, self._execution_device.type, guidance_parallel=guidance_parallel, timeout=timeout
        )
        self._gathers = gather

    def disable_frame_parallel(self) -> None:
        """Make the videos of the next calls in this process alone."""
        self._frame_ranks = None

    def _frame_share(
        self,
        num_frames: int,
        latent_pixels: int,
        frame_chunk: int | None,
        guidance_scale: float,
        guidance_rescale: float,
        guidance_interval: tuple[float, float] | None,
        facts: Mapping[str, Any],
    ) -> FrameShare | None:
        """This process's share of a call; ``facts``: further arguments that must be the same in all processes."""
        ranks = self._frame_ranks
        if ranks is None:
            return None
        from latentshift.frame_parallel.agreement import lora_strengths, weight_sample
        from latentshift.frame_parallel.share import FrameShare

        if (device := self._execution_device.type) != ranks.device_type:
            raise ValueError(
                f"the model is on {device}, and was on {ranks.device_type} when its frames were split over processes: "
                "call enable_frame_parallel again"
            )
        pipe: Any = self
        parts = (pipe.unet, pipe.vae, pipe.text_encoders)
        facts = {
            **facts,
            "guidance": [guidance_scale, guidance_interval, ranks.half is not None],
            "dtype": self.unet.dtype,
            "temporal shift": self.config.shift,
            "weights": [weight_sample(part) for part in parts],
            "strengths of LoRAs": [lora_strengths(part) for part in parts],
        }
        return FrameShare(
            ranks,
            self.unet,
            num_frames,
            latent_pixels,
            frame_chunk=frame_chunk,
            guided=guidance_scale != 1.0 and not is_guidance_distilled(self.unet),
            guidance_rescale=guidance_rescale,
            guidance_interval=guidance_interval,
            facts=facts,
        )

    def _gathered(self, frames: Any, share: FrameShare | None) -> Any:
        """What a call returns of the frames that it made here."""
        return frames if share is None or not self._gathers else share.gather(frames)
