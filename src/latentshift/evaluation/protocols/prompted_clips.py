"""The clip of each prompt in folders of several systems, for what shows clips side by side: sheets and user studies.

Which files are clips, and how they are read, is as for scores (:mod:`.clip_files`): in worker processes, and refused if
they would be shown wrongly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from latentshift.data.rejected import Rejected
from latentshift.data.worker_pool import WorkerLimits, WorkerPool
from latentshift.evaluation.protocols.captions import captions_by_slug, captions_of_name
from latentshift.evaluation.protocols.clip_files import IMPORTS, list_clips, read_prompt
from latentshift.user_input.error_text import printable

T = TypeVar("T")
_MAX_SHOWN = 120  # characters of a prompt in a message
_LIMITS = WorkerLimits()


class PromptedClips:
    """The clips of each system, one for each prompt; to be used in a ``with`` statement, which ends the processes.

    A clip is found by the prompt in its metadata, as ``latentshift generate`` writes it, else by its name.

    Args:
        systems: name and folder of each.
        prompts: all different.
        limits: of the reading processes.

    Attributes:
        path_of: the clip of each prompt, by system.
        notes: sentences on what was taken for a clip, and on clips that are of none of the prompts.

    Raises:
        ValueError: for a folder that is none or holds no clip, a prompt with no clip or with several, or a file whose
            name fits several prompts.
    """

    def __init__(self, systems: Mapping[str, Path], prompts: Sequence[str], limits: WorkerLimits = _LIMITS) -> None:
        listed = {name: list_clips(folder) for name, folder in systems.items()}  # before a process is started
        self.notes = [note for each in listed.values() for note in each.notes]
        self._pool: WorkerPool[_Call, Any] = WorkerPool(_work, limits, IMPORTS)
        try:
            self.path_of: dict[str, dict[str, Path]] = {}
            for name, folder in systems.items():
                paths = [folder / (item.file or "") for item in listed[name].items]
                self.path_of[name], unused = _matched(folder, prompts, self._own_prompts(paths))
                if unused:
                    names = printable(", ".join(str(path.relative_to(folder)) for path in unused), 200)
                    self.notes.append(f"clips in {folder} that are of none of the prompts ({len(unused):,}): {names}")
        except BaseException:
            self._pool.close()
            raise

    def __enter__(self) -> PromptedClips:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._pool.close()

    def each(self, read: Callable[[Path], T], paths: Iterable[Path]) -> Iterator[T]:
        """What a function at the top of a module, or a partial one, gives for each clip, in order.

        Raises:
            ValueError: for the first clip that can't be used.
        """
        for call, result in self._pool.run(_Call(read, path) for path in paths):
            if isinstance(result, Rejected):
                raise ValueError(f"{call.path} can't be used: {result.reason}")
            yield result

    def _own_prompts(self, paths: Sequence[Path]) -> dict[Path, str]:
        """What can't be read has none here; it is refused when it is read as a clip."""
        calls = (_Call(read_prompt, path) for path in paths)
        return {call.path: "" if isinstance(own, Rejected) else own for call, own in self._pool.run(calls)}


@dataclass(frozen=True)
class _Call:
    read: Callable[[Path], Any]
    path: Path


def _work(call: _Call) -> Any:
    try:
        return call.read(call.path)
    except OSError as error:
        raise Rejected("damaged", f"it can't be read: {error.strerror}") from None


def _matched(folder: Path, prompts: Sequence[str], own: Mapping[Path, str]) -> tuple[dict[str, Path], list[Path]]:
    """The clip of each prompt, and the clips of none; ``own`` are their prompts in the metadata, or empty."""
    by_slug = captions_by_slug(prompts)
    wanted = {" ".join(prompt.split()): prompt for prompt in prompts}
    paths_of: dict[str, list[Path]] = {prompt: [] for prompt in prompts}
    unused: list[Path] = []
    for path, written in own.items():
        if written:
            fitting = [wanted[text]] if (text := " ".join(written.split())) in wanted else []
        else:
            fitting = captions_of_name(by_slug, path.stem)
        if len(fitting) > 1:
            raise ValueError(
                f"the name of {path} fits several prompts, {_quoted(fitting[0])} and {_quoted(fitting[1])}: rename it"
            )
        (paths_of[fitting[0]] if fitting else unused).append(path)
    missing = [prompt for prompt, paths in paths_of.items() if not paths]
    if missing:
        rest = f" (nor of {len(missing) - 1:,} others)" if len(missing) > 1 else ""
        raise ValueError(f"the folder {folder} holds no clip of the prompt {_quoted(missing[0])}{rest}")
    for prompt, paths in paths_of.items():
        if len(paths) > 1:
            names = printable(", ".join(str(path.relative_to(folder)) for path in paths))
            raise ValueError(
                f"the folder {folder} holds {len(paths)} clips of the prompt {_quoted(prompt)}, where one is wanted: "
                f"{names}"
            )
    return {prompt: path for prompt, (path,) in paths_of.items()}, unused


def _quoted(prompt: str) -> str:
    return f'"{printable(prompt, _MAX_SHOWN)}"'
