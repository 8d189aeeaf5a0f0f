"""Files that one process at a time holds; the kernel lets go of them when the process ends, however it ends.

Imports nothing else of the package.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO


def open_alone(path: Path) -> BinaryIO:
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
