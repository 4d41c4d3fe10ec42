"""Sections of a report that are pictures or charts with a few sentences: what a method of its own has to show.

A method that wants a word in the report makes a `Section`; neither the page nor its facts have to know it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Section:
    """One section.

    id: a word, its address on the page. name: in the contents. heading: its title.
    lead: paragraphs. figures: (caption, picture), or (caption, chart) with the `<svg>` of `plots.draw`.
    """

    id: str
    name: str
    heading: str
    lead: Sequence[str]
    figures: Sequence[tuple[str, Image | str]] = ()


def section_view(section: Section, inline: Any) -> dict[str, Any]:
    """What the template shows; ``inline(picture)`` puts a picture into the page."""
    from markupsafe import Markup

    figures = [
        {"caption": caption, "chart": Markup(figure), "picture": None}  # ours, from plots, which escapes
        if isinstance(figure, str)
        else {"caption": caption, "chart": None, "picture": inline(figure)}
        for caption, figure in section.figures
    ]
    return {"id": section.id, "name": section.name, "heading": section.heading, "lead": section.lead,
            "figures": figures}  # fmt: skip
