"""`kuosan cite RUN`: BibTeX of what a run used."""

from __future__ import annotations

from pathlib import Path

from kuosan.cli.answer import Answer
from kuosan.cli.options import Json


def cite(run: Path, /, *, json: Json = False) -> Answer:
    """Print BibTeX for the methods that a run used and was measured with.

    Args:
        run: the folder that `kuosan train` wrote to.
    """
    from kuosan.recipes.cite import citations, reasons_of
    from kuosan.recipes.run import Run

    loaded = Run(run)
    entries = citations(loaded)
    why = reasons_of(loaded)
    rows = [{"key": key, "for": what, "bibtex": text} for (what, key), text in zip(why, entries, strict=True)]
    text = "\n\n".join(f"% {row['for']}\n{row['bibtex']}" for row in rows)
    return Answer(text, {"run": run, "bibtex": "\n\n".join(entries), "entries": rows})
