"""The command line: one verb, one file (docs/reference/command-line.md).

A verb is a function that does its work, tells its progress to stderr with `notes.note`, and returns an
`Answer`: plain data for ``--json`` and a text for people. `app.main` parses, prints the answer, and turns
whatever went wrong into an exit status. Nothing here imports torch until a verb needs it, so that ``--help``
is quick.
"""

from __future__ import annotations

from kuosan.cli.app import main

__all__ = ["main"]
