"""Atomic writes (written to a temporary name, then renamed into place), atomic deletes, and exclusive locks on files.

Knows nothing of what is written. Imports nothing else of the package.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def check_writable(target: Path) -> None:
    """Check early that :func:`atomic_write` could write here; creates no folders.

    Raises:
        NotADirectoryError, PermissionError: if its parent cannot be made, or not be written to.
        ValueError: for the folder that the process is in, or one above it: it can't be put in another's place.
    """
    if Path(os.path.realpath(target)) in (here := Path.cwd().resolve(), *here.parents):
        raise ValueError(f"{target} is the folder you are in, or holds it: name a new folder or file in it")
    ancestor = target.absolute().parent
    while not ancestor.exists():
        ancestor = ancestor.parent
    if not ancestor.is_dir():
        raise NotADirectoryError(f"{target} can't be written, because {ancestor} is no folder: choose another path")
    try:
        with tempfile.TemporaryFile(dir=ancestor):  # permission bits say nothing of /proc, or to root
            pass
    except OSError as error:
        raise PermissionError(
            f"{target} can't be written, because the folder {ancestor} is not writable ({error.strerror}): "
            "choose another"
        ) from None


def missing_file(path: Path) -> str:
    """The sentence on a path that is no file: nothing is there, or something else."""
    if path.exists():
        return f"{path} is a {'folder' if path.is_dir() else 'pipe or device'}, and no file"
    return f"there is no file {path}"


def missing_folder(path: Path) -> str:
    """The sentence on a path that is no folder: nothing is there, or something else."""
    if path.exists():
        return f"{path} is a {'file' if path.is_file() else 'pipe or device'}, and no folder"
    return f"there is no folder {path}"


def check_writable_file(target: Path) -> None:
    """The same for a file, which does not take an existing folder's place.

    Raises:
        IsADirectoryError: if the target is a folder.
        OSError, ValueError: as :func:`check_writable`.
    """
    check_writable(target)
    if target.is_dir():
        raise IsADirectoryError(f"{target} is an existing folder: name a file")


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Give a temporary path for a file or folder, which replaces the target when the block succeeds.

    The old target stays until then, and a failure leaves nothing behind, not even newly created parents. The content is
    synced to disk before it is renamed, so it survives a power failure.

    Raises:
        OSError: where the parents cannot be made, or nothing was written, or a file would take a folder's place.
        ValueError: as :func:`check_writable`.
    """
    check_writable(target)
    target = target.absolute()
    missing = [parent for parent in target.parents if not parent.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{uuid.uuid4().hex}.part")
    try:
        yield temporary
        if target.is_dir() and temporary.is_file():
            raise IsADirectoryError(f"{target} is an existing folder: name a file")
        _open_to_others(temporary)
        for path in (*temporary.rglob("*"), temporary):
            _sync(path)
        if target.is_dir():
            former = target.with_name(f".{uuid.uuid4().hex}.former")
            os.replace(target, former)  # a folder can't replace a non-empty one
            try:
                os.replace(temporary, target)
            except BaseException:
                os.replace(former, target)
                raise
            shutil.rmtree(former)
        else:
            os.replace(temporary, target)
        for parent in (target.parent, *(each.parent for each in missing)):
            _sync(parent)
    except BaseException:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
        for parent in missing:
            try:
                parent.rmdir()
            except OSError:
                break  # someone else has put something there
        raise


def _sync(path: Path) -> None:
    """Make sure that it is on the disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder, on Windows; or one that may be written to and not be read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Disks that can't do it for folders; Windows, which wants a file that is open to be written.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def _open_to_others(path: Path) -> None:
    """Give files the permissions of new files: safetensors creates them readable by the owner only."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    files = [each for each in files if not each.is_symlink()]  # what a link leads to is another's
    closed = [each for each in files if not stat.S_IMODE(each.stat().st_mode) & 0o077]
    if closed:
        probe = path.with_name(f".{uuid.uuid4().hex}.part")  # the umask can't be read without being changed
        probe.touch()
        mode = stat.S_IMODE(probe.stat().st_mode)
        probe.unlink()
        for each in closed:
            each.chmod(mode)


def clear_leftovers(folder: Path) -> None:
    """Delete leftovers of killed :func:`atomic_write` calls in a folder that no other process writes to."""
    for pattern in (".*.part", ".*.former"):
        for left in folder.glob(pattern):
            remove(left)


def remove(path: Path) -> None:
    """Delete a file or a folder atomically, even if killed midway."""
    if not path.is_dir():
        path.unlink()
        return
    hidden = path.with_name(f".{uuid.uuid4().hex}.part")
    os.replace(path, hidden)
    shutil.rmtree(hidden)


def atomic_write_text(target: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_write(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def explain_full_disk(place: Path, what_next: str) -> Iterator[None]:
    """Say where a disk is full, and what to do, in place of a number.

    Args:
        place: what was being written to.
        what_next: a sentence without its end: what is kept, and how to go on.

    Raises:
        OSError: in place of the system's, where the disk is full or its quota is used up.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
            raise
        raise OSError(f"the disk of {place} is full ({_free(place)} free): free some space; {what_next}") from error


def _free(place: Path) -> str:
    while not place.exists() and place != place.parent:
        place = place.parent
    return f"{shutil.disk_usage(place).free / 2**20:,.0f} MiB"


def open_locked(path: Path) -> BinaryIO:
    """Open a file to read and append, made if it is not there, that is this process's own until it is closed.

    Whoever holds it may delete it. On Windows nothing is held.

    Raises:
        BlockingIOError: if another process holds it.
        OSError: if the file can't be opened, or its disk can't lock files.
    """
    while True:
        file = path.open("a+b")
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # on Windows
            return file
        except BaseException:
            file.close()
            raise
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
        file.close()  # it was finished and deleted between opening and holding it


def open_to_write_alone(path: Path) -> BinaryIO:
    """As :func:`open_locked`, for a file that one process at a time may write.

    Raises:
        ValueError: if another process holds it, or its disk can't lock files: what to do.
    """
    try:
        return open_locked(path)
    except BlockingIOError:
        raise ValueError(f"another process is writing {path}; wait for it, or stop it, and run again") from None
    except OSError as error:
        raise ValueError(f"{path} can't be locked ({error.strerror}); choose a folder on another disk") from None
