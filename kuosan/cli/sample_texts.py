"""What `kuosan sample` can be asked of texts: a template with gaps, and what every text must keep to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kuosan.cli.notes import busy
from kuosan.errors import UserError

if TYPE_CHECKING:
    from kuosan.recipes.run import Run
    from kuosan.recipes.tokens import Rules


def text_of(template: str | None) -> str | None:
    """A template as it is, or from the file that @ names."""
    if template is None or not template.startswith("@"):
        return template
    path = Path(template[1:])
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise UserError(
            f"the template {path} cannot be read ({why}): give --template @FILE a text file"
        ) from error


def text_rules(run: Run, wishes: dict[str, Any], seed: int, where: dict[str, str]) -> Rules | None:
    """What samples must keep to."""
    if not any(value for name, value in wishes.items() if name != "ignore_case"):
        return None
    from kuosan.recipes.rules import Wishes, rules_of

    with busy("laying out what the texts must keep to"):
        return rules_of(run, Wishes(**wishes), seed, where)
