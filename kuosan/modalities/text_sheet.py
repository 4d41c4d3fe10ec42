"""Many texts on one sheet, to be looked at: each on a card, in its own lines.

Every character is drawn in the first font that has it: DejaVu Sans, which comes with matplotlib, then the
fonts of this machine that cover Chinese, Japanese and Korean.  A character that none of them has is drawn as
a dot, never as the empty box that a font puts in its place, and a line below the sheet says so.
"""

from __future__ import annotations

import functools
import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

_FONT, _LINE, _MARGIN, _GAP = 13, 18, 10, 8  # pixels at scale 1
_WIDTH, _MOST_LINES = 300, 14
_PAPER, _DESK, _INK, _PALE, _EDGE = "#ffffff", "#f2f0ec", "#1c1c1c", "#9a958c", "#dcd8d0"
_MISSING, _MORE, _EMPTY = "·", "…", "(empty)"
# families that hold the ideographs of Chinese; the first that is there is taken
_WIDE = (
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei",
    "Microsoft YaHei", "SimHei", "SimSun", "PingFang SC", "Heiti SC", "Hiragino Sans GB", "Arial Unicode MS",
    "Noto Serif CJK SC", "AR PL UMing CN", "AR PL UKai CN", "Droid Sans Fallback", "Unifont",
)  # fmt: skip


class _Pen:
    """Fonts at one size; knows which draws a character, and how wide it is."""

    def __init__(self, size: int) -> None:
        self.size = float(size)
        self.fonts = [(ImageFont.truetype(path, size), covered) for path, covered in _fonts()]
        self.missing: set[str] = set()
        self.known: dict[str, tuple[str, int, float]] = {}

    def glyph(self, character: str) -> tuple[str, int, float]:
        """What is drawn, in which font, and its width."""
        if character not in self.known:
            fonts = [i for i, (_, has) in enumerate(self.fonts) if ord(character) in has]
            shown, which = character, fonts[0] if fonts else 0
            if not fonts or not character.isprintable():
                self.missing.add(character)
                shown, which = _MISSING, 0
            width = self.fonts[which][0].getlength(shown)
            if shown != character and unicodedata.east_asian_width(character) in "WF":
                width = self.size
            self.known[character] = shown, which, width
        return self.known[character]

    def wrap(self, text: str, width: float, most: int) -> list[str]:
        """At most `most` lines no wider than `width`, broken at a space where there is one."""
        lines: list[str] = []
        for paragraph in text.expandtabs(4).split("\n"):
            line, used, space = "", 0.0, -1
            for character in paragraph:
                used += self.glyph(character)[2]
                if used > width and line:
                    cut = space + 1 if space > 0 else len(line)
                    lines.append(line[:cut])
                    line = line[cut:]
                    used = sum(self.glyph(c)[2] for c in line + character)
                    space = line.rfind(" ")
                if character == " ":
                    space = len(line)
                line += character
                if len(lines) > most:
                    break
            lines.append(line)
            if len(lines) > most:
                return [*lines[: most - 1], lines[most - 1].rstrip() + _MORE]
        return lines

    def draw(self, sheet: ImageDraw.ImageDraw, x: float, y: float, line: str, ink: str) -> None:
        for character in line:
            shown, which, width = self.glyph(character)
            sheet.text((x, y), shown, _PALE if character in self.missing else ink, self.fonts[which][0])
            x += width


def text_sheet(texts: Sequence[str], columns: int | None = None, scale: int | None = None) -> Image.Image:
    """A sheet of cards, `columns` in a row (by default at most three), enlarged by a whole `scale`."""
    if not texts:
        return Image.new("RGB", (1, 1), _DESK)
    scale = scale or 1
    columns = min(columns or math.ceil(math.sqrt(min(len(texts), 9))), len(texts))
    pen = _Pen(_FONT * scale)
    width, line, margin, gap = (scale * side for side in (_WIDTH, _LINE, _MARGIN, _GAP))
    cards = [
        pen.wrap(text.strip("\n"), width - 2 * margin, _MOST_LINES) if text.strip() else [] for text in texts
    ]
    rows = [cards[i : i + columns] for i in range(0, len(cards), columns)]
    heights = [2 * margin + line * max(1, *(len(card) for card in row)) for row in rows]
    note = _note(pen.missing)
    below = line * bool(note)
    size = (columns * (width + gap) + gap, sum(heights) + gap * (len(rows) + 1) + below)
    picture = Image.new("RGB", size, _DESK)
    sheet = ImageDraw.Draw(picture)
    top = gap
    for row, height in zip(rows, heights, strict=True):
        for column, card in enumerate(row):
            left = gap + column * (width + gap)
            sheet.rectangle((left, top, left + width - 1, top + height - 1), _PAPER, _EDGE, scale)
            for i, words in enumerate(card or [_EMPTY]):
                pen.draw(sheet, left + margin, top + margin + i * line, words, _INK if card else _PALE)
        top += height + gap
    if note:
        pen.draw(sheet, gap, top - gap / 2, note, _PALE)
    return picture


def _note(missing: set[str]) -> str:
    if not missing:
        return ""
    return f"{_MISSING} {len(missing):,} characters that no font here has; Noto Sans CJK has most"


@functools.cache
def _fonts() -> tuple[tuple[str, frozenset[int]], ...]:
    """Font files in the order in which they are tried, each with the code points that it covers."""
    import matplotlib
    from matplotlib import font_manager

    plain = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    families = {font.name: font.fname for font in reversed(font_manager.fontManager.ttflist)}
    wide = [families[name] for name in _WIDE if name in families][:2]
    return tuple((path, _covered(path)) for path in (str(plain), *wide))


def _covered(path: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(path).get_charmap())
