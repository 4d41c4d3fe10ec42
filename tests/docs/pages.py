"""The pages of the documentation as programs: which blocks there are, and how they are run.

A fenced ``bash`` or ``python`` block is run, in the order of its page, in a folder that holds what `kuosan demo`
leaves (``runs/demo`` and ``runs/demo-data``, here a few digits and a few steps). A page's Python blocks share
their names. An HTML comment just above a block, which readers do not see and editors do, changes that:

    <!-- run: tiny -->              budgets become 12 steps of a small network, -n at most 24, tuning a second
                                    (and whatever `tests/conftest.py` makes brief)
    <!-- run: tiny texts -->        the same, of a network over tokens
    <!-- run: fails -->             the commands end with exit status 2
    <!-- run: skip, REASON -->      not run; its commands are still parsed: verbs and flags, make's targets,
                                    the extras that pip is asked for
    <!-- output: same -->           above a ``text`` block: just what the block before it prints
    <!-- output: as from REASON --> above a ``text`` block: real output, which differs from run to run

Every ``text`` block after a ``bash`` or ``python`` block says which of the two it is.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = tuple(
    sorted(path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")))
)
TINY = (
    "--budget 12steps --set training.batch=16 network.dim=32 network.depth=1 network.patch=4 "
    "training.validations=2 sampling.steps=2"
)
TINY_PYTHON = (
    'budget="12steps", training__batch=16, network__dim=32, network__depth=1, network__patch=4, '
    "training__validations=2, sampling__steps=2"
)
TINY_TEXTS = TINY.replace(" network.patch=4", "")  # which is of networks for pictures
TINY_UNET = re.sub(r"network\.dim.*network\.patch=4", "network.mults=[1,2] network.blocks=1", TINY)
MOST = 24
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DIRECTIVE = re.compile(r"<!-- (run|output): (.+?) -->\n\Z")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, text, directive ("" for none) and line on its page."""

    language: str
    text: str
    directive: str
    line: int

    @property
    def skipped(self) -> bool:
        return self.directive.startswith("run: skip")

    @property
    def tiny(self) -> bool:
        return self.directive in ("run: tiny", "run: tiny texts")

    @property
    def texts(self) -> bool:
        """Whether the models that it trains are of texts."""
        return self.directive == "run: tiny texts"

    @property
    def status(self) -> int:
        """The exit status that its commands should have."""
        return 2 if self.directive == "run: fails" else 0


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    out = []
    for found in _FENCE.finditer(text):
        before = _DIRECTIVE.search(text[: found.start()])
        directive = f"{before[1]}: {before[2]}" if before else ""
        out.append(Block(found[1], found[2], directive, text.count("\n", 0, found.start()) + 1))
    return out


def commands(block: Block) -> Iterator[str]:
    """The command lines of a ``bash`` block, continued lines joined, comments left out."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield line.strip() if "#" not in line else shlex.join(words)


def argv(line: str, tiny: bool, texts: bool = False) -> list[str]:
    """The words after ``kuosan``, brought to a test's size where asked for."""
    words = shlex.split(line)[1:]
    if not tiny:
        return words
    for i, word in enumerate(words[:-1]):
        if word == "-n":
            words[i + 1] = str(min(int(words[i + 1]), MOST))
    if words[0] == "train" and "--dry-run" not in words:
        if "--budget" in words:
            place = words.index("--budget")
            del words[place : place + 2]
        words += shlex.split(TINY_UNET if "network=unet" in words else TINY_TEXTS if texts else TINY)
    if words[0] == "finetune" and "--budget" in words:
        words[words.index("--budget") + 1] = "12steps"
    if words[0] == "distil":
        words += ["--budget", "12steps"]
    if words[0] == "tune":
        words += ["--budget", "1s"] if texts else ["--pairs", "64", "--budget", "1s"]
    if words[0] == "evaluate" and "-n" not in words:
        words += ["-n", str(MOST)]
    return words


def python(block: Block) -> str:
    """A ``python`` block's program, brought to a test's size where asked for."""
    return re.sub(r'budget="\w+"', TINY_PYTHON, block.text) if block.tiny else block.text
