"""Tables 1 to 5 of the Latent-Shift paper (An et al., 2023, arXiv 2304.08477), as it prints them. Data only.

Numbers of other systems are those that the paper cites; nothing here was measured by this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from latentshift.evaluation.report.schema import Better, Protocol

REFERENCES = {
    2: "Clark et al., 2019, arXiv 1907.06571",
    8: "Ge et al., ECCV 2022",
    11: "Ho et al., 2022, arXiv 2210.02303",
    14: "Ho et al., ICLR workshop 2022",
    15: "Hong et al., 2022, arXiv 2205.15868",
    30: "Saito et al., IJCV 2020",
    31: "Singer et al., ICLR 2023",
    33: "Tian et al., ICLR 2021",
    36: "Wu et al., 2021, arXiv 2104.14806",
    37: "Wu et al., ECCV 2022",
    41: "Yan et al., 2021, arXiv 2104.10157",
    43: "Yu et al., ICLR 2022",
}
PAPER = "An et al., 2023, arXiv 2304.08477"


@dataclass(frozen=True)
class Column:
    """A column of numbers.

    Attributes:
        name: its heading.
        metrics: names in ``report.json`` of what it shows, the first that is there.
        better: which of two values is the better one.
        unit: in its heading.
        by_machine: whether numbers of another machine are no comparison.
    """

    name: str
    metrics: tuple[str, ...]
    better: Better = "neither"
    unit: str = ""
    by_machine: bool = False


@dataclass(frozen=True)
class Cited:
    """A printed number; ``text`` where the print has more than the number, as a spread or a sum."""

    value: float
    text: str = ""


@dataclass(frozen=True)
class CitedRow:
    """A system's row.

    Attributes:
        method: its name.
        values: by the column's name; a column without one is a dash.
        reference: number of the paper it is from; None: the Latent-Shift paper's own.
        words: of columns that hold a word.
    """

    method: str
    values: dict[str, Cited]
    reference: int | None = None
    words: dict[str, str] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """Who is cited."""
        return PAPER if self.reference is None else REFERENCES[self.reference]


@dataclass(frozen=True)
class PaperTable:
    """One table.

    Attributes:
        number: of the table.
        title: what it compares.
        protocol: whose results stand beside it; None for the user study, which has pages of its own.
        columns: of numbers.
        rows: in the paper's order.
        words: columns of words, before those of numbers.
        notes: sentences that a reader should know.
    """

    number: int
    title: str
    protocol: Protocol | None
    columns: tuple[Column, ...]
    rows: tuple[CitedRow, ...]
    words: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


_FID = Column("FID", ("FID",), "lower")
_CLIPSIM = Column("CLIPSIM", ("CLIPSIM",), "higher")
_ZERO_SHOT = "Zero-shot"


def _row(method: str, reference: int | None = None, zero_shot: str = "", **values: float | Cited) -> CitedRow:
    return CitedRow(method, _cited(values), reference, {_ZERO_SHOT: zero_shot} if zero_shot else {})


def _cited(values: Mapping[str, float | Cited | None]) -> dict[str, Cited]:
    given = {name: each for name, each in values.items() if each is not None}
    return {name: each if isinstance(each, Cited) else Cited(each) for name, each in given.items()}


def _spread(value: float, spread: float) -> Cited:
    return Cited(value, f"{value:.2f} ± {spread:g}")


TABLE_1 = PaperTable(
    1,
    "Text-to-video on MSR-VTT, frame by frame",
    "msrvtt",
    (_FID, _CLIPSIM),
    (
        _row("GODIVA", 36, "no", CLIPSIM=0.2402),
        _row("NÜWA", 37, "no", FID=47.68, CLIPSIM=0.2439),
        _row("CogVideo", 15, "yes", FID=23.59, CLIPSIM=0.2631),
        _row("Make-A-Video", 31, "yes", FID=13.17, CLIPSIM=0.3049),
        _row("Latent-VDM", None, "yes", FID=14.25, CLIPSIM=0.2756),
        _row("Latent-Shift", None, "yes", FID=15.23, CLIPSIM=0.2773),
    ),
    (_ZERO_SHOT,),
    (
        "Cited from Table 1 of the paper, which uses all captions of the test set; CogVideo's numbers come from "
        "Make-A-Video's paper.",
    ),
)

TABLE_2 = PaperTable(
    2,
    "Text-to-video on UCF-101",
    "ucf101",
    (Column("IS", ("C3D-IS",), "higher"), Column("FVD", ("FVD",), "lower")),
    (
        _row("VideoGPT", 41, IS=_spread(24.69, 0.3)),
        _row("TGANv2", 30, IS=_spread(26.60, 0.47)),
        _row("DIGAN", 43, IS=_spread(32.70, 0.35), FVD=Cited(577, "577 ± 22")),
        _row("DVD-GAN", 2, IS=_spread(32.97, 1.7)),
        _row("MoCoGAN-HD", 33, IS=_spread(33.95, 0.25), FVD=Cited(700, "700 ± 24")),
        _row("CogVideo", 15, IS=50.46, FVD=626),
        _row("VDM", 14, IS=_spread(57.80, 1.3)),
        _row("TATS-base", 8, IS=_spread(79.28, 0.38), FVD=Cited(278, "278 ± 11")),
        _row("Make-A-Video", 31, IS=82.55, FVD=81.25),
        _row("Latent-VDM", None, IS=90.74, FVD=358.34),
        _row("Latent-Shift", None, IS=92.72, FVD=360.04),
    ),
    notes=(
        "Cited from Table 2 of the paper. Its rows come from different programs: CogVideo, for one, took its FVD from "
        "that of TATS and its IS from that of TGANv2. FVD differs between such programs for the same videos.",
    ),
)

TABLE_3 = PaperTable(
    3,
    "User study: share of comparisons that the first system won",
    None,
    (
        Column("Quality", ("quality",), "higher", "%"),
        Column("Faithfulness", ("faithfulness",), "higher", "%"),
    ),
    (
        _row("Latent-VDM", None, Quality=56.4, Faithfulness=53.8),
        _row("Latent-Shift", None, Quality=58.0, Faithfulness=62.9),
    ),
    notes=("Cited from Table 3 of the paper: 300 prompts, 5 raters a comparison, majority vote.",),
)

CORE, AUTOENCODER, TEXT_ENCODER, _PRIOR = "T2V core", "Autoencoder", "Text encoder", "Prior model"
_SUPER, _BETWEEN, OVERALL, SPEED = "Super resolution", "Frame interpolation", "Overall", "Speed"


def _cost(
    method: str,
    reference: int | None,
    overall: float,
    speed: float | Cited | None,
    *,
    core: float,
    autoencoder: float | Cited | None = None,
    text: float | None = None,
    prior: float | None = None,
    upscale: Cited | None = None,
    between: float | Cited | None = None,
) -> CitedRow:
    values = {
        CORE: core,
        AUTOENCODER: autoencoder,
        TEXT_ENCODER: text,
        _PRIOR: prior,
        _SUPER: upscale,
        _BETWEEN: between,
        OVERALL: overall,
        SPEED: speed,
    }
    return CitedRow(method, _cited(values), reference)


TABLE_4 = PaperTable(
    4,
    "Model size and seconds a video",
    "cost",
    (
        *(Column(name, (), unit="billion") for name in (CORE, AUTOENCODER, TEXT_ENCODER, _PRIOR, _SUPER, _BETWEEN)),
        Column(OVERALL, (), "lower", "billion"),
        Column(SPEED, (), "lower", "s", by_machine=True),
    ),
    (
        _cost("CogVideo", 15, 15.5, 434.53, core=7.7, autoencoder=Cited(0.1, "0.10"), between=7.7),
        _cost(
            "Make-A-Video", 31, 9.72, None, core=3.1, text=0.12, prior=1.3, upscale=Cited(2.1, "1.4 + 0.7"), between=3.1
        ),
        _cost(
            "Imagen Video",
            11,
            16.25,
            None,
            core=5.6,
            text=4.6,
            upscale=Cited(2.94, "1.2 + 1.4 + 0.34"),
            between=Cited(3.11, "1.7 + 0.78 + 0.63"),
        ),
        _cost("Latent-VDM", None, 1.58, 28.62, core=0.92, autoencoder=0.08, text=0.58),
        _cost("Latent-Shift", None, 1.53, Cited(23.4, "23.40"), core=0.87, autoencoder=0.08, text=0.58),
    ),
    notes=(
        "Cited from Table 4 of the paper: seconds on one A100 (80 GB). CogVideo's two models share 6 billion "
        "parameters. Seconds on another machine are no comparison.",
    ),
)

TABLE_5 = PaperTable(
    5,
    "Images as frozen videos on MSR-VTT",
    "msrvtt",
    (_FID, _CLIPSIM),
    (
        _row("LDM", None, FID=15.36, CLIPSIM=Cited(0.291, "0.2910")),
        _row("Latent-Shift (T2I)", None, FID=15.64, CLIPSIM=0.2737),
        _row("Latent-Shift", None, FID=15.23, CLIPSIM=0.2773),
    ),
    notes=("Cited from Table 5 of the paper: FID and CLIPSIM look at single frames, and say nothing of motion.",),
)

PAPER_TABLES = (TABLE_1, TABLE_2, TABLE_3, TABLE_4, TABLE_5)
