"""Which samples a step of training takes: whole clips, few frames of more clips, or single frames.

Every step has about as many frames, so that it takes about as long. Knows nothing of data, models or files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from math import floor

from latentshift.data.loader import BatchSpec


def video_batches(
    clips: int, num_frames: int, image_share: float = 0.0, frame_curriculum: Mapping[int, int] | None = None
) -> Callable[[int], BatchSpec]:
    """The batch of each step, as a function of its number (1, 2, …) alone.

    At a share of the steps, evenly spread, it is single frames. Clips and single frames go through the data each in an
    order of their own, and no step leaves any out.

    Args:
        clips: whole clips a step.
        num_frames: F of a whole clip.
        image_share: of the steps, in [0, 1); these have clips · F single frames.
        frame_curriculum: frames of a clip, less than F -> number of steps: the run begins with the fewest of them, of
            clips · ⌊F / frames⌋ clips a step, goes on with more, and then with whole clips.
    """
    share = Fraction(str(image_share))
    curriculum = sorted((frame_curriculum or {}).items())

    def images_until(step: int) -> int:
        return floor(step * share)

    def batch_spec(step: int) -> BatchSpec:
        images = images_until(step - 1)
        if images_until(step) > images:
            return BatchSpec(clips * num_frames, 1, images * clips * num_frames)
        seen, begin = 0, 0  # clips in the phases before, and the last step of these
        for frames, steps in curriculum:
            a_step, last = clips * (num_frames // frames), min(begin + steps, step - 1)
            seen += (last - begin - images_until(last) + images_until(begin)) * a_step
            if step <= begin + steps:
                return BatchSpec(a_step, num_frames, seen, kept_frames=frames)
            begin += steps
        return BatchSpec(clips, num_frames, seen + (step - 1 - begin - images + images_until(begin)) * clips)

    return batch_spec


def clips_until(
    step: int, clips: int, num_frames: int, image_share: float = 0.0, frame_curriculum: Mapping[int, int] | None = None
) -> int:
    """How many clips the steps up to this one have had; one on single frames counts as whole clips of as many frames.

    Args:
        step: 0, 1, ….
        clips: as for :func:`video_batches`.
        num_frames: likewise.
        image_share: likewise.
        frame_curriculum: likewise.
    """
    share = Fraction(str(image_share))
    total, begin = step * clips, 0
    for frames, steps in sorted((frame_curriculum or {}).items()):
        last = min(begin + steps, step)
        images = floor(last * share) - floor(begin * share)
        total += (last - begin - images) * clips * (num_frames // frames - 1)
        begin = last
    return total
