"""An evaluation of the clips in a folder, with all that it needs to be built in another process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from latentshift.cli.evaluate.common import open_extractors

if TYPE_CHECKING:
    from latentshift.data.worker_pool import WorkerLimits
    from latentshift.evaluation.protocols.captions import Captioned
    from latentshift.evaluation.protocols.clip_files import FrameChoice
    from latentshift.evaluation.protocols.evaluation import Evaluation
    from latentshift.evaluation.protocols.pairing import Pairs
    from latentshift.evaluation.protocols.plan import Item


@dataclass(frozen=True)
class FolderJob:
    """An evaluation of clips; it can be sent to another process.

    Attributes:
        output: folder of the result.
        clips: folder of the clips.
        captioned: the clips with their captions.
        reference: folder of true clips and the clips in it; None for none.
        pairs: which true clip each clip is compared with on its own; None: with none.
        frames: which frames of each clip.
        limits: of the reading processes.
        extractors: their keys.
        name: of the system.
        device: as given.
        notes: sentences for the report.
    """

    output: Path
    clips: Path
    captioned: Captioned
    reference: tuple[Path, list[Item]] | None
    pairs: Pairs | None
    frames: FrameChoice
    limits: WorkerLimits
    extractors: list[str]
    name: str
    device: str
    notes: list[str]

    @property
    def dtype(self) -> None:
        """None: there is no model."""

    @property
    def total(self) -> int:
        """Clips in the folder."""
        return len(self.captioned.items)

    def with_dtype(self, dtype: str) -> FolderJob:
        """The same: there is no model."""
        return self

    def build(self, device: str, *, shown: bool = True) -> Evaluation:
        """Load the extractors.

        Args:
            device: of them.
            shown: whether progress is shown.

        Raises:
            ValueError: if one can't be loaded.
        """
        from latentshift.evaluation.protocols.folder import folder_evaluation

        return folder_evaluation(
            self.output,
            self.clips,
            self.captioned,
            self.reference,
            self.pairs,
            self.frames,
            self.limits,
            open_extractors(self.extractors, device, shown=shown),
            name=self.name,
            device=device,
            notes=self.notes,
        )
