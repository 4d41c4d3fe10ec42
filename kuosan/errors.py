"""The one error that is the user's to mend.

Everything else that is raised is a defect of ours. The command line prints a `UserError` as a single
sentence and leaves with status 2; a program may catch it by its type.
"""

from __future__ import annotations


class UserError(Exception):
    """One clear sentence: what is wrong, where, and what to do next."""


def out_of_memory(error: BaseException) -> bool:
    """Whether that is what an exception says, in any of the ways in which libraries say it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)
