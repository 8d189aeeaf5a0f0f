"""Options of the evaluations whose videos a model makes here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import typer

from latentshift.diffusion.sampler_names import default_steps
from latentshift.models.storage.model_paths import BUNDLED
from latentshift.settings import STEPS as PAPER_STEPS

MODEL = typer.Option(BUNDLED, "--model", help="The bundled model, a folder, or a hub id.")
LORA = typer.Option(None, "--lora", metavar="FILE[:WEIGHT]", help="A LoRA, as in generate; may be given several times.")
DELTA = typer.Option(None, "--delta", help="A file with the difference of all weights from training.")
SYSTEM = typer.Option(
    "video",
    "--system",
    help="video: the model's videos. frozen: one image of it, held still. images: the plain image model (no shift, no "
    "temporal layers), an image a frame. frozen-images: one of its images, held still.",
)
STEPS = typer.Option(None, "--steps", help=f"Sampling steps. Default: {PAPER_STEPS}, with lcm and tcd 4.")
SAMPLER = typer.Option(None, "--sampler", help="As in generate. Default: the model's.")
SIDE = typer.Option(
    None, "--size", help="Side of the frames in pixels, of generated and true videos. Default: the model's."
)
SECONDS = typer.Option(2.0, "--seconds", help="Of a true video that the frames are taken from, from its centre.")
KEEP = typer.Option(
    "examples", "--keep", help="Which videos stay as files in clips/: examples (the best and the worst), all, none."
)
OUTPUT_HELP = "Folder of the result."


@dataclass(frozen=True)
class ModelOptions:
    """The options of the model, as given; they can be sent to another process.

    Attributes:
        frames: None: the model's, as ``size`` and ``guidance``.
        asked_steps: None: the paper's, or what ``sampler`` takes.
    """

    model: str
    variant: str | None
    lora: tuple[str, ...]
    delta: Path | None
    system: str
    frames: int | None
    size: int | None
    asked_steps: int | None
    guidance: float | None
    sampler: str | None
    device: str
    dtype: str

    @property
    def steps(self) -> int:
        """Of the sampler."""
        return default_steps(self.sampler, PAPER_STEPS) if self.asked_steps is None else self.asked_steps

    def check(self) -> int | None:
        """Refuse what is wrong before torch is imported.

        Returns:
            The number of frames of the videos, if it is known without opening the model.

        Raises:
            ValueError: for the first invalid option.
        """
        from latentshift.cli.data.common import one_of
        from latentshift.cli.preflight import check_adapters, check_frame_count, check_generation
        from latentshift.evaluation.protocols.systems import SYSTEMS
        from latentshift.models.storage.model_paths import check_model, read_video_size

        one_of("--system", self.system, SYSTEMS)
        if self.frames is not None:
            check_frame_count(self.frames)
        if self.size is not None and self.size < 1:
            raise ValueError(f"--size must be a number of pixels, not {self.size:,}")
        check_generation(
            self.model,
            self.device,
            self.dtype,
            self.sampler,
            self.steps,
            self.guidance,
            variant=self.variant,
            frames=self.frames,
            height=self.size,
            width=self.size,
            adapted=bool(self.lora) or self.delta is not None,
        )
        check_adapters(self.lora, self.delta, self.model, self.variant)
        folder = check_model(self.model)
        return self.frames or (None if folder is None else read_video_size(folder)[0])
