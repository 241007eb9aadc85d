"""How a command ends that is told to end: tidy, within seconds, whatever it was doing.

SIGTERM (batch systems), SIGHUP (a closed terminal) and SIGINT (Ctrl-C) become a KeyboardInterrupt
in the main thread, which unwinds what is open. Python delivers that between two of its own steps
only, and unwinding may wait for a server or for threads: a thread of its own hears of the signal at
once, waits for `PATIENCE`, lets what must be said be said, and then ends the process all the same.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

from utils.system.files import discard_unfinished, unfinished_elsewhere

PATIENCE = 3.0
"""Seconds that unwinding may take."""

SAYING = 1.0
"""Seconds that all last words together may take, where it took longer."""

_LAST_WORDS: list[Callable[[], None]] = []
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_LISTENING = threading.Lock()
"""Held for ever by the thread that ends the process."""
_TOLD: list[int] = []
"""The signals that told this process to end."""


def listen() -> None:
    """Let signals that end a command interrupt it from now on; those ignored stay ignored."""
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    if _LISTENING.acquire(blocking=False):
        heard, tell = os.pipe()
        os.set_blocking(tell, False)
        signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
        threading.Thread(target=_hear, args=(heard,), name="interrupts", daemon=True).start()


def ended_by(error: BaseException) -> int | None:
    """Return the signal that an error came of, None where it came of itself.

    Unwinding an interrupt may end in any other error: libraries raise from what they clean up.
    """
    if _TOLD:
        return _TOLD[0]
    return signal.SIGINT if isinstance(error, KeyboardInterrupt) else None


@contextlib.contextmanager
def last_words(say: Callable[[], None]) -> Iterator[None]:
    """Call `say`, from another thread, where the process has to end without unwinding this."""
    _LAST_WORDS.append(say)
    try:
        yield
    finally:
        _LAST_WORDS.remove(say)


def end(number: int) -> None:
    """End this process, told to by a signal, without what its threads have not finished.

    Threads that are still at work would begin further files, or keep the process waiting.
    """
    try:
        discard_unfinished()
        left = unfinished_elsewhere()
        said = (
            f"what is unfinished in {left[0]} goes with a later command, when its writer is dead"
            if left
            else "no incomplete output was left"
        )
        with contextlib.suppress(OSError, ValueError):  # nobody listens: a closed terminal or pipe
            sys.stderr.write(f"error: interrupted; {said}\n")
            sys.stderr.flush()
        logging.shutdown()
        discard_unfinished()  # what threads began meanwhile
    finally:
        os._exit(128 + number)


def _interrupt(number: int, _: object) -> None:
    _TOLD.append(number)
    raise KeyboardInterrupt


def _hear(pipe: int) -> None:
    number = 0
    while number not in _SIGNALS:
        number = os.read(pipe, 1)[0]
    threading.Event().wait(PATIENCE)
    saying = [threading.Thread(target=say, daemon=True) for say in tuple(_LAST_WORDS)]
    for thread in saying:
        thread.start()
    over = time.monotonic() + SAYING
    for thread in saying:
        thread.join(max(0.0, over - time.monotonic()))
    end(number)
