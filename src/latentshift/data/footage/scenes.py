"""Scene cut detection over every frame: subsampled frames give false cuts."""

from __future__ import annotations

from itertools import pairwise

from latentshift.data.footage.video_file import each_frame
from latentshift.data.manifest import Row

THRESHOLD = 27.0  # PySceneDetect's own
_SIDE = 128  # pixels of the shorter side, enough to detect cuts


def find_scenes(row: Row, threshold: float) -> list[tuple[float, float]]:
    """Start and end of each scene, in seconds from the start of the video.

    Args:
        row: a video; only the part from ``start`` to ``end`` is used.
        threshold: of PySceneDetect's content detector, 0 … 255; lower finds more changes.

    Raises:
        Rejected: for a video that can't be decoded.
    """
    from scenedetect import ContentDetector, FrameTimecode

    detector = ContentDetector(threshold=threshold, min_scene_len=1)
    times: list[float] = []
    edges: list[float] = []
    end = 0.0
    for number, (shown, end, picture) in enumerate(each_frame(row, _SIDE)):  # noqa: B007
        times.append(shown)
        # The detector counts frames; their spacing in time is irrelevant.
        cuts = detector.process_frame(FrameTimecode(number, fps=25.0), picture[..., ::-1])
        edges += [times[each.frame_num] for each in cuts]
    edges = [times[0], *(edge for edge in edges if edge > times[0]), end]
    return list(pairwise(edges))
