"""Make the folder of a study from folders of clips: a database, and the clips under names that tell nothing."""

from __future__ import annotations

import filecmp
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path

from latentshift.data.footage.spread import Strip, read_strip
from latentshift.evaluation.protocols.prompted_clips import PromptedClips
from latentshift.files import atomic_write, check_writable
from latentshift.progress import progress_bar
from latentshift.study.broken_twin import twin_suffix, write_broken_twin, write_strip
from latentshift.study.database import CLIPS, create_database
from latentshift.study.design import check_check_counts, write_design
from latentshift.study.playable import WRITTEN, ClipInfo, inspect_clip, is_rewritten
from latentshift.study.seeded import seeded
from latentshift.study.settings import StudySettings
from latentshift.user_input.error_text import printable
from latentshift.video import DEFAULT_FPS

_DEFAULTS = StudySettings()
_whole = partial(read_strip, strip=Strip())


@dataclass(frozen=True)
class MadeStudy:
    """What was made.

    Attributes:
        comparisons: pairs of clips to vote on.
        votes: answered pairs that are wanted: ``comparisons`` by the raters of each.
        notes: sentences on what is unlike between the clips, and on clips that were left out; for the user to read.
    """

    comparisons: int
    votes: int
    notes: list[str] = field(default_factory=list)


def make_study(
    systems: Mapping[str, Path],
    prompts: Sequence[str],
    output: Path,
    settings: StudySettings = _DEFAULTS,
    *,
    broken: int = 2,
    identical: int = 2,
    link: bool = False,
) -> MadeStudy:
    """Make a study; a failure leaves nothing behind.

    Args:
        systems: folder of each system's clips, one for each prompt.
        prompts: what the clips were made for.
        output: a new folder: ``study.db``, and ``clips/``.
        settings: of the study.
        broken: number of attention checks with a broken twin.
        identical: number of attention checks with one clip twice.
        link: link to the clips rather than copying them; they must then stay where they are. Folders of frames, and
            pictures that not all browsers show, are written as animations in any case.

    Raises:
        ValueError: for fewer than two systems, missing or repeated prompts, and folders or clips that don't serve.
        FileExistsError: if the output exists.
        OSError: if it can't be written.
    """
    _check_names(systems, prompts)
    if output.exists():
        raise FileExistsError(f"{output} exists already: name a new folder for the study")
    check_writable(output)
    check_check_counts(len(systems) * len(prompts), broken, identical)
    with PromptedClips(systems, prompts) as found:
        paths, notes = found.path_of, list(found.notes)
        clips = _inspected(found, systems, prompts)
        notes += _differences(list(systems), prompts, clips)
        suffixes = {
            system: {prompt: WRITTEN if is_rewritten(path) else path.suffix.lower() for prompt, path in path_of.items()}
            for system, path_of in paths.items()
        }
        notes += [*_rewritten_notes(paths), *_same_file_notes(paths)]
        with atomic_write(output) as temporary:
            (temporary / CLIPS).mkdir(parents=True)
            database = create_database(temporary)
            try:
                files = write_design(
                    database, settings, prompts, suffixes, twin_suffix=twin_suffix, broken=broken, identical=identical
                )
            finally:
                database.close()
            for file in files:
                source, target = paths[file.system][file.prompt], temporary / CLIPS / file.file
                if file.broken:
                    (strip,) = found.each(_whole, [source])
                    seed = seeded(settings.seed, "broken", file.system, file.prompt)
                    write_broken_twin(source, strip, target, seed)
                elif is_rewritten(source):
                    (strip,) = found.each(_whole, [source])
                    write_strip(target, strip)
                elif link:
                    os.symlink(source.resolve(), target)
                else:
                    shutil.copyfile(source, target)
    comparisons = len(prompts) * len(list(combinations(systems, 2)))
    return MadeStudy(comparisons, comparisons * settings.raters_each, notes)


def _inspected(found: PromptedClips, systems: Iterable[str], prompts: Sequence[str]) -> dict[tuple[str, str], ClipInfo]:
    """What each clip is like; refuses the first that can't be used, or that browsers don't play."""
    each = [(system, prompt) for system in systems for prompt in prompts]
    infos = found.each(inspect_clip, [found.path_of[system][prompt] for system, prompt in each])
    clips = {}
    read = zip(each, infos, strict=True)
    for name, info in progress_bar(read, total=len(each), text="reading clips", unit="clip", leave=False):
        if info.unplayed:
            raise ValueError(f"{info.path} {info.unplayed}")
        clips[name] = info
    return clips


def _rewritten_notes(paths: Mapping[str, Mapping[str, Path]]) -> list[str]:
    rewritten = [path for path_of in paths.values() for path in path_of.values() if is_rewritten(path)]
    if not rewritten:
        return []
    return [
        f"{len(rewritten):,} clips are folders of frames, or pictures that not all browsers show, such as "
        f"{rewritten[0]}: they are written anew without loss, and play at {DEFAULT_FPS} frames a second where nothing "
        "in them says how fast."
    ]


def _same_file_notes(paths: Mapping[str, Mapping[str, Path]]) -> list[str]:
    """Sentences on systems that have one and the same file for a prompt."""
    notes = []
    for one, two in combinations(paths, 2):
        same = [prompt for prompt, path in paths[one].items() if _is_same_file(path, paths[two][prompt])]
        if same:
            notes.append(
                f"{one} and {two} have the same file for {len(same):,} of {len(paths[one]):,} prompts: raters would be "
                "asked which of two equal clips is better."
            )
    return notes


def _is_same_file(one: Path, two: Path) -> bool:
    return one.is_file() and two.is_file() and filecmp.cmp(one, two, shallow=False)


def _check_names(systems: Mapping[str, Path], prompts: Sequence[str]) -> None:
    if len(systems) < 2:
        raise ValueError(f"a study compares two systems or more, not {len(systems)}")
    if not all(name.strip() for name in systems):
        raise ValueError("each system of a study needs a name")
    if not prompts:
        raise ValueError("a study needs one prompt or more, and the list of prompts is empty")
    (prompt, times) = Counter(prompts).most_common(1)[0]
    if times > 1:
        raise ValueError(f'the prompt "{printable(prompt, 120)}" is given {times} times, and a study takes it once')


def _differences(
    systems: Sequence[str], prompts: Sequence[str], clips: Mapping[tuple[str, str], ClipInfo]
) -> list[str]:
    """Sentences on clips of a system, or of systems, that are unlike in length or size."""
    notes = []
    common = {}
    for system in systems:
        kinds = Counter(_kind(clips[system, prompt]) for prompt in prompts)
        common[system] = kinds.most_common(1)[0][0]
        if len(kinds) > 1:
            counted = ", ".join(f"{count:,} of {kind}" for kind, count in kinds.most_common(4))
            notes.append(f"{system}: the clips are not alike: {counted}{', …' if len(kinds) > 4 else ''}")
    if len(set(common.values())) > 1:
        notes.append(f"the systems are not alike: {', '.join(f'{name}: {kind}' for name, kind in common.items())}")
    return notes


def _kind(clip: ClipInfo) -> str:
    return f"{clip.frames} frames of {clip.width}x{clip.height} in {clip.seconds:.2f} s"
