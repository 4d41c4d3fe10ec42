"""Sections of a report that are pictures or charts with a few sentences: what a method of its own has to show.

A method that wants a word in the report makes a `Section`; neither the page nor its facts have to know it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kuosan.evaluation.report_words import count
from kuosan.training.checkpoint import write_bytes

if TYPE_CHECKING:
    from jinja2 import Environment
    from PIL.Image import Image


@dataclass(frozen=True)
class Words:
    """Texts as they are, each with a caption."""

    texts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Trace:
    """A text as it came to be: its pieces in their order, each with the step (1 … steps) that wrote it; 0: given."""

    pieces: Sequence[tuple[str, int]]
    steps: int


@dataclass(frozen=True)
class Clip:
    """Something that plays: a sound, a film or an animated picture, by its MIME type."""

    kind: str
    data: bytes


@dataclass(frozen=True)
class Table:
    """Cells under heads."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """One section.

    id: a word, its address on the page. name: in the contents. heading: its title.
    lead: paragraphs. figures: (caption, picture), (caption, chart) with the `<svg>` of `plots.draw`, texts, clips,
        or tables.
    """

    id: str
    name: str
    heading: str
    lead: Sequence[str]
    figures: Sequence[tuple[str, Image | str | Words | Trace | Clip | Table]] = ()


def section_view(section: Section, inline: Any) -> dict[str, Any]:
    """What the template shows; ``inline(picture)`` puts a picture into the page."""
    from markupsafe import Markup

    def view(figure: Image | str | Words | Trace | Clip | Table) -> dict[str, Any]:
        match figure:
            case str():
                return {"chart": Markup(figure)}  # ours, from plots, which escapes
            case Words():
                return {"words": figure.texts}
            case Trace():
                return {"trace": figure}
            case Clip():
                data = base64.b64encode(figure.data).decode("ascii")
                return {"clip": (figure.kind.partition("/")[0], f"data:{figure.kind};base64,{data}")}
            case Table():
                return {"table": figure}
            case _:
                return {"picture": inline(figure)}

    kinds: dict[str, Any] = {
        "chart": None,
        "picture": None,
        "words": None,
        "trace": None,
        "clip": None,
        "table": None,
    }
    figures = [{"caption": caption, **kinds, **view(figure)} for caption, figure in section.figures]
    return {"id": section.id, "name": section.name, "heading": section.heading, "lead": section.lead,
            "figures": figures}  # fmt: skip


@cache
def templates() -> Environment:
    """The templates of a report, each of which is compiled once."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = count
    return environment


def insert(section: Section, path: Path) -> bool:
    """Put a section of charts into a report that is there already, in the place of an earlier one of its id; whether
    there was a report."""
    if not path.is_file():
        return False
    page = path.read_text(encoding="utf-8")
    view = section_view(section, lambda picture: None)
    text = templates().get_template("report_section.html.jinja").render(section=view).rstrip() + "\n"
    old = re.compile(rf'<section id="{re.escape(section.id)}">.*?</section>\n', re.DOTALL)
    if old.search(page):
        page = old.sub(lambda _: text, page, count=1)
    else:
        link = f'<a href="#{section.id}">{section.name}</a>\n'
        page = page.replace('<a href="#data">', f'{link}<a href="#data">', 1)
        page = page.replace('<section id="data">', f'{text}\n<section id="data">', 1)
    write_bytes(path, page.encode("utf-8"))
    return True
