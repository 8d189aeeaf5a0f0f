"""What workers of a pool do in tests.

In a file of its own: a worker imports the file of its work, and with a test it would import torch and all models.
"""

from __future__ import annotations

import os
import signal
import time

from latentshift.data.rejected import Rejected


def act(what: str) -> str:
    """Stands for a decoder, and for what decoders do to a process."""
    if what == "hang":
        time.sleep(60)
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "asked":  # to end, as all processes of a run may be at the same time
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    if what == "swell":
        return str(len(bytearray(2**33)))
    if what == "refuse":
        raise Rejected("damaged", "it is damaged")
    return what.upper()
