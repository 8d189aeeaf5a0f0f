"""The paper's claims as one table: what it says and where, and which two numbers decide it. Imports nothing heavy.

Systems are rungs of :data:`RUNGS`, or ``IMAGE_STAGE``, the image model that all of them start from; parts are those of
the sprites study.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from latentshift.benchmarks.rungs import METHOD_RUNGS, SHIFT_RUNGS
from latentshift.settings import ShiftConfig
from latentshift.training.recipe import VideoRecipe

RUNGS = (*METHOD_RUNGS, *SHIFT_RUNGS)
IMAGE_STAGE = "image-stage"
SETTINGS_CLAIM = 4  # whose runs differ from the paper's settings

Part = Literal["seen", "shift_off", "images", "images_shift_off", "lasting", "lasting_32", "lasting_64"]
Score = Literal["joint", "motion", "thing"]
Cost = Literal["temporal_parameters", "seconds_a_video"]
Distance = Literal["sprites-FVD"]
Setting = Literal["padding", "noise", "fold", "place", "blocks", "direction", "length"]
SETTINGS: tuple[Setting, ...] = get_args(Setting)  # that SETTINGS_CLAIM compares


@dataclass(frozen=True)
class Shares:
    """A statement about two shares of right answers of the analytic reader.

    Attributes:
        says: what is to hold, in words.
        source: where the paper says it.
        first: (system, part) of the share that is to be larger.
        second: (system, part) of the share that it is compared with.
        score: which share; ``joint`` is everything that the sentence asks for.
        margin: the first may be so much smaller, 0 … 1; 0: it must be larger.
        setting: of the shift that it compares, where it is one of :data:`SETTINGS_CLAIM`.
    """

    says: str
    source: str
    first: tuple[str, Part]
    second: tuple[str, Part]
    score: Score = "joint"
    margin: float = 0.0
    setting: Setting | None = None


@dataclass(frozen=True)
class Distances:
    """A statement that the first system's videos are nearer to true clips than the second's.

    Attributes:
        says: what is to hold, in words.
        source: where the paper says it.
        first: (system, part) of the distance that is to be smaller.
        second: (system, part) of the other.
        distance: which; a mean over seeds.
    """

    says: str
    source: str
    first: tuple[str, Part]
    second: tuple[str, Part]
    distance: Distance = "sprites-FVD"


@dataclass(frozen=True)
class Costs:
    """A statement that the first system costs less than the second.

    Attributes:
        says: what is to hold, in words.
        source: where the paper says it.
        first: the system that is to cost less.
        second: the other.
        cost: what is counted or measured.
    """

    says: str
    source: str
    first: str
    second: str
    cost: Cost


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        number: on the command line.
        title: of its section.
        paper: what the paper says, in short.
        statements: each is decided on its own.
        sheet: (system, part) of the rows of its picture.
    """

    number: int
    title: str
    paper: str
    statements: tuple[Shares | Distances | Costs, ...]
    sheet: tuple[tuple[str, Part], ...]


def _setting(setting: Setting, says: str, source: str, other: str) -> Shares:
    """That the paper's settings give more right videos than a rung that differs in one of them."""
    more = f"More videos are right {says}"
    return Shares(more, source, ("latent-shift", "seen"), (f"shift-{other}", "seen"), setting=setting)


def _length(frames: int, part: Part) -> Shares:
    """That the model of the paper's 16 frames makes longer videos nearly as well."""
    says = f"Of motions that may last, at most 10 percentage points fewer are right over {frames} frames than over 16"
    sides = ("latent-shift", part), ("latent-shift", "lasting")
    return Shares(says, "Supp. A", *sides, margin=0.1, setting="length")  # type: ignore[arg-type]


CLAIMS = (
    Claim(
        1,
        "Latent-Shift, Latent-VDM, and nothing between frames",
        "The parameter-free shift learns motion, and is better than temporal attention in most cases, with fewer "
        "parameters and faster inference.",
        (
            Shares(
                "With the shift more motions are right than without anything between frames",
                "Sec. 3.2, Tables 1 and 2",
                ("latent-shift", "seen"),
                ("none", "seen"),
                "motion",
            ),
            Shares(
                "More of Latent-Shift's videos than of Latent-VDM's are right in everything",
                "Sec. 4.3, Tables 1 to 3",
                ("latent-shift", "seen"),
                ("latent-vdm", "seen"),
            ),
            Distances(
                "With the shift videos are nearer to true clips than without anything between frames",
                "Sec. 3.2",
                ("latent-shift", "seen"),
                ("none", "seen"),
            ),
            Distances(
                "Latent-Shift's videos are nearer to true clips than Latent-VDM's",
                "Table 2",
                ("latent-shift", "seen"),
                ("latent-vdm", "seen"),
            ),
            Costs(
                "Latent-Shift adds fewer parameters to the image model than Latent-VDM",
                "Table 4",
                "latent-shift",
                "latent-vdm",
                "temporal_parameters",
            ),
            Costs(
                "Latent-Shift makes a video in less time than Latent-VDM",
                "Table 4",
                "latent-shift",
                "latent-vdm",
                "seconds_a_video",
            ),
        ),
        (("latent-shift", "seen"), ("latent-vdm", "seen"), ("none", "seen")),
    ),
    Claim(
        2,
        "One frame from a video model",
        "Trained on videos alone, Latent-Shift still draws single images nearly as well as the image model that it "
        "started from; Latent-VDM does not, with its temporal layers or without; and Latent-Shift needs its shift.",
        (
            Shares(
                "Of Latent-Shift's images at most 10 percentage points fewer are right than of the image stage's",
                "Table 5",
                ("latent-shift", "images"),
                (IMAGE_STAGE, "images"),
                margin=0.1,
            ),
            Shares(
                "More of Latent-Shift's images than of Latent-VDM's are right",
                "Fig. 6, column 4",
                ("latent-shift", "images"),
                ("latent-vdm", "images"),
            ),
            Shares(
                "The same with Latent-VDM's temporal layers switched off",
                "Sec. 4.4",
                ("latent-shift", "images"),
                ("latent-vdm", "images_shift_off"),
            ),
            Shares(
                "More of Latent-Shift's images are right with its shift than without",
                "Fig. 6, columns 2 and 3",
                ("latent-shift", "images"),
                ("latent-shift", "images_shift_off"),
            ),
        ),
        (
            (IMAGE_STAGE, "images"),
            ("latent-shift", "images"),
            ("latent-shift", "images_shift_off"),
            ("latent-vdm", "images"),
            ("latent-vdm", "images_shift_off"),
        ),
    ),
    Claim(
        3,
        "The shift switched off",
        "A model that was trained with the shift makes no meaningful videos without it.",
        (
            Shares(
                "More of Latent-Shift's videos are right in everything with its shift than without",
                "Sec. 4.4, Fig. 7",
                ("latent-shift", "seen"),
                ("latent-shift", "shift_off"),
            ),
            Shares(
                "More of the things in them can be recognised with the shift than without",
                "Sec. 4.4, Fig. 7",
                ("latent-shift", "seen"),
                ("latent-shift", "shift_off"),
                "thing",
            ),
            Distances(
                "Its videos are nearer to true clips with the shift than without",
                "Sec. 4.4, Fig. 7",
                ("latent-shift", "seen"),
                ("latent-shift", "shift_off"),
            ),
        ),
        (("latent-shift", "seen"), ("latent-shift", "shift_off")),
    ),
    Claim(
        SETTINGS_CLAIM,
        "Beyond the paper: settings of the shift",
        "In every block, before the first convolution of the residual branch, a third of the channels comes from each "
        "neighbour, zeros stand beyond the ends, each frame has its own noise, and videos are as long as the clips of "
        "training, 16 frames. None of this is compared with anything else there: each statement is that its choice is "
        "the better one, or that 16 frames are no limit.",
        (
            _setting("padding", "with zeros than with circular padding", "Eq. 3", "circular"),
            _setting("padding", "with zeros than with the end frames repeated", "Eq. 3", "replicate"),
            _setting("fold", "with a third than with half of the channels from each neighbour", "Table 6", "fold-2"),
            _setting("fold", "with a third than with a quarter", "Table 6", "fold-4"),
            _setting("fold", "with a third than with an eighth", "Table 6", "fold-8"),
            _setting("noise", "with independent noise than with shared (a = 1)", "Sec. 3.3", "shared-noise"),
            _setting("place", "with the shift before the first convolution than before the second", "Fig. 3", "conv2"),
            _setting("place", "with it in the residual branch than on the skip path too", "Sec. 3.3", "block"),
            _setting("blocks", "with the shift in all blocks than in the encoder's alone", "Fig. 3", "encoder"),
            _setting("blocks", "with the shift in all blocks than in the decoder's alone", "Fig. 3", "decoder"),
            _setting("direction", "with both neighbours than with the previous frame alone", "Eq. 3", "past-only"),
            _length(32, "lasting_32"),
            _length(64, "lasting_64"),
        ),
        (("latent-shift", "seen"), *((rung.name, "seen") for rung in SHIFT_RUNGS)),
    ),
)


def parse_claims(text: str) -> tuple[Claim, ...]:
    """The claims of a list of numbers with commas, in the table's order.

    Raises:
        ValueError: for a number that no claim has.
    """
    known = {str(claim.number): claim for claim in CLAIMS}
    wanted = [each.strip() for each in text.split(",")]
    for each in wanted:
        if each not in known:
            raise ValueError(f"--claims: there is no claim {each!r}; choose from {', '.join(known)}")
    return tuple(claim for number, claim in known.items() if number in wanted)


def choose_settings(claims: tuple[Claim, ...], text: str) -> tuple[Claim, ...]:
    """Claims with the statements of ``SETTINGS_CLAIM`` on some of its settings alone.

    Args:
        claims: with that one among them.
        text: some of ``SETTINGS``, with commas.

    Raises:
        ValueError: for an unknown setting, or without that claim.
    """
    wanted = [each.strip() for each in text.split(",")]
    for each in wanted:
        if each not in SETTINGS:
            raise ValueError(f"--settings: there is no setting {each!r}; choose from {', '.join(SETTINGS)}")
    if all(claim.number != SETTINGS_CLAIM for claim in claims):
        raise ValueError(f"--settings is of claim {SETTINGS_CLAIM}: add it to --claims, or leave --settings out")
    return tuple(_of_settings(claim, wanted) if claim.number == SETTINGS_CLAIM else claim for claim in claims)


def _of_settings(claim: Claim, wanted: list[str]) -> Claim:
    statements = tuple(each for each in claim.statements if isinstance(each, Shares) and each.setting in wanted)
    systems, parts = needed((replace(claim, statements=statements),))
    sheet = tuple((system, part) for system, part in claim.sheet if system in systems and part in parts)
    if not sheet:  # one system, and no part of the other settings
        sheet = tuple((system, part) for system in systems for part in parts)
    return replace(claim, statements=statements, sheet=sheet)


def needed(claims: tuple[Claim, ...]) -> tuple[list[str], list[Part]]:
    """The systems and the parts of their studies that claims compare, each once."""
    systems: dict[str, None] = {}
    parts: dict[Part, None] = {}
    for claim in claims:
        for each in claim.statements:
            if isinstance(each, Costs):
                systems |= {each.first: None, each.second: None}
            else:
                systems |= {each.first[0]: None, each.second[0]: None}
                parts |= {each.first[1]: None, each.second[1]: None}
    return list(systems), list(parts)


def check_videos_for(claims: tuple[Claim, ...], videos: int) -> None:
    """Refuse too few videos for what claims compare.

    Raises:
        ValueError: for one video, where a distance is compared.
    """
    for claim in claims:
        if videos < 2 and any(isinstance(each, Distances) for each in claim.statements):
            raise ValueError(f"--videos must be 2 or more for claim {claim.number}, which compares distances")


def check_recipe_for(claims: tuple[Claim, ...], recipe: VideoRecipe) -> None:
    """Refuse a recipe with which a claim would compare something else than it says.

    Raises:
        ValueError: for settings other than the paper's, where those are what is compared.
    """
    shift = ShiftConfig() if recipe.shift is None else recipe.shift
    share = recipe.noise_share or 0.0
    if any(claim.number == SETTINGS_CLAIM for claim in claims) and (shift != ShiftConfig() or share):
        raise ValueError(
            f"claim {SETTINGS_CLAIM} compares the paper's settings with others, and the recipe has {shift} and "
            f"noise_share {share:g}: leave shift out of it, and set noise_share=0"
        )
