"""Tables of results: Markdown with the machine, the versions and the date."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from kuosan.recipes import machine

RESULTS = Path(__file__).parent / "results"


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def write(name: str, title: str, notes: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    """``results/NAME.md``, also printed."""
    facts = machine.facts()
    about = ", ".join(
        f"{k} {facts[k]}" for k in ("python", "kuosan", "torch", "diffusers", "numpy") if k in facts
    )
    lines = [
        f"# {title}",
        "",
        notes.strip(),
        "",
        markdown(header, rows),
        "",
        f"{datetime.date.today().isoformat()}; {facts['machine']}, {facts['threads']} threads; {about}.",
        "",
    ]
    text = "\n".join(lines)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.md"
    path.write_text(text, encoding="utf-8")
    print(text)
    return path
