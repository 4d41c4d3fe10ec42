"""From anything that can go wrong to an exit status and one sentence.

0        done
1        a defect of ours: the traceback is in a log file
2        the user's to mend
128 + n  stopped by signal n
"""

from __future__ import annotations

import errno
import shlex
import signal
import sys
import tempfile
import time
import traceback
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kuosan.errors import UserError, out_of_memory

FULL = {errno.ENOSPC, errno.EDQUOT}
# What a file system refuses is the user's to mend; any other OSError is looked into as a defect.
REFUSED = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP,
    errno.EMFILE, errno.EIO, errno.EFBIG, errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.EINVAL,
}  # fmt: skip

_FOLDER: ContextVar[Path | None] = ContextVar("folder", default=None)


class Stopped(Exception):
    """A signal ended the work; ``sentence`` says what is kept and how to go on."""

    def __init__(self, signum: int, sentence: str):
        super().__init__(sentence)
        self.signum, self.sentence = signum, sentence


class Terminated(BaseException):
    """SIGTERM came where nothing has to be saved; not an Exception, so that no handler swallows it."""


@dataclass(frozen=True)
class Failure:
    """What to print and to return."""

    status: int
    sentence: str
    data: dict[str, Any]


def working_in(folder: Path | None) -> None:
    """From now on, a defect's traceback is written into this run's folder."""
    _FOLDER.set(folder)


def explain(error: BaseException, words: list[str]) -> Failure:
    """The failure that an exception is; a defect's traceback is written to a file."""
    folder = _FOLDER.get()
    where = {"run": str(folder)} if folder else {}
    if isinstance(error, Stopped):
        return Failure(128 + error.signum, error.sentence, where)
    if isinstance(error, (KeyboardInterrupt, Terminated)):
        signum = signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM
        kept = (
            f"what was saved is kept: go on with `kuosan resume {shlex.quote(str(folder))}`"
            if folder
            else "run the same command again"
        )
        return Failure(128 + signum, f"interrupted; {kept}", where)
    if sentence := _users(error):
        return Failure(2, sentence, where)
    log = _write_log(error, words, folder)
    name = type(error).__name__
    return Failure(
        1,
        f"sorry, this is a defect of Kuosan ({name}), not a mistake of yours: the details are in {log}, "
        "please send them with your report; your files are untouched",
        {**where, "log": str(log)},
    )


def _users(error: BaseException) -> str:
    """The sentence of a failure that the user can mend; "" for a defect."""
    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return text
    if out_of_memory(error):
        return (
            "there is not enough memory for this: choose a smaller batch (--set training.batch=16), smaller "
            "pictures (--set data.max_side=32) or fewer samples (-n), or close other programs"
        )
    if isinstance(error, OSError):
        name = error.filename if isinstance(error.filename, str) else ""
        what = name or "a file"
        if error.errno in FULL:
            return f"{what} could not be written: the disk is full; make room and run the same command again"
        if error.errno in REFUSED and name and not Path(name).is_relative_to(Path(__file__).parents[1]):
            return f"{name} cannot be read or written ({error.strerror}): check the path, or choose another"
    if (
        "os error 28" in text or "No space left on device" in text
    ):  # from libraries that wrap the system's error
        return "a file could not be written: the disk is full; make room and run the same command again"
    return ""


def _write_log(error: BaseException, words: list[str], folder: Path | None) -> Path:
    """The traceback, in the run's folder or else in the temporary one."""
    text = "".join(traceback.format_exception(error))
    text = f"kuosan {shlex.join(words)}\nPython {sys.version}\n\n{text}"
    name = f"error-{time.strftime('%Y%m%d-%H%M%S')}.log"
    for place in (folder, Path(tempfile.gettempdir()), Path.cwd()):
        if place is None or not place.is_dir():
            continue
        try:
            path = place / (name if place == folder else f"kuosan-{name}")
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
            return path
        except OSError:
            continue
    print(text, file=sys.stderr)  # nowhere can be written: better here than nowhere
    return Path("stderr")
