"""What the page of a sprites study calls its parts and its numbers, and what each means."""

from __future__ import annotations

from latentshift.evaluation.report.glossary import INTERVAL
from latentshift.evaluation.report.part_names import title_of_part
from latentshift.evaluation.report.sprites.parts import StudyPart

# Shares in the order of tables, and means, by the name that a page gives them.
SHARES = {"joint": "all right", "background": "background", "colour": "colour", "thing": "thing", "motion": "motion"}
STEADINESS = {"colour_drift": "colour drift", "frame_flicker": "frame flicker"}
TRUE_CLIPS = {"rendered": "true clips", "through_autoencoder": "autoencoded true clips"}

_EXPLAINED = {
    "seen": "Colour, thing and motion come together as in clips of the training set.",
    "held_out": "Each word was in the training set, but never these three together: does the model understand the "
    "words, or does it repeat whole sentences? (The part held_out of report.json and of folders.)",
    "images": "The same model draws one frame, without a motion in the sentence.",
    "shift_off": "The first prompts and seeds again, but no frame hears of its neighbours: if the motion is still "
    "right, the shift does nothing.",
    "images_shift_off": "The single frames again, by the same prompts and seeds, without what stands between frames.",
    "lasting": "Motions that have no end within the frame, at the model's own length: bouncing, circling, spinning and "
    "standing still.",
    "lasting_32": "The same prompts and seeds in videos of 32 frames.",
    "lasting_64": "The same prompts and seeds in videos of 64 frames.",
}
QUESTION = (
    "The model gets a sentence such as “a red star circling on a navy background” and draws a short video. The world "
    "is small on purpose: 8 colours, 8 things, 10 motions and 4 backgrounds, so that a program can measure whether a "
    "video shows what its sentence says, without a human or a learned judge. Prompts and seeds are fixed: two models "
    "that are evaluated so answer the same questions."
)
MEANINGS = (
    ("all right", "Share of videos in which background, colour, thing and motion are all as the sentence says."),
    ("background", "Share with the background's colour that the sentence asks for."),
    ("colour", "Share in which the thing has the colour that the sentence asks for."),
    ("thing", "Share in which its outline is the one asked for: a star, a ring, …"),
    (
        "motion",
        "Share in which it moves as asked: path, size and angle follow that motion's law in nearly all frames.",
    ),
    (
        "colour drift",
        "How far the thing's colour strays from its own mean over the clip, in levels of 0 to 255; 0 is perfectly "
        "steady.",
    ),
    ("frame flicker", "How much its colour jumps back and forth from frame to frame, in levels; 0 is none."),
    (
        "reader",
        "The program that judges the videos. It measures, and has learned nothing; on clips whose content is known it "
        "is right as often as the tables say, and where it is not sure it says nothing, which counts as wrong.",
    ),
    ("true clips", "Clips drawn by the program that made the training set: what a perfect model would draw."),
    (
        "autoencoded true clips",
        "True clips, packed and unpacked by the model's autoencoder: no model on top of it can be expected to be "
        "steadier.",
    ),
    ("interval", INTERVAL),
)


def part_title(part: StudyPart) -> str:
    """The part's name for readers."""
    return title_of_part(part.part.name)


def part_explained(part: StudyPart) -> str:
    """What the part is, in a sentence."""
    return _EXPLAINED.get(part.part.name, "")


def videos_of(part: StudyPart) -> str:
    """What its videos are called."""
    return "single frames" if part.part.image else "videos"
