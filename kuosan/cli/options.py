"""Pairs on the command line, recipe files, and checks of numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from kuosan.errors import UserError

CAPTION = "caption"
PAIR_FLAGS = ("--set", "--where")
_PAIR = re.compile(r"[^=/\\-][^=/\\]*=")

Flag = Annotated[bool, Parameter(show_default=False)]
Json = Annotated[
    bool,
    Parameter(
        name="--json", show_default=False, help="One JSON object on stdout, everything else on stderr."
    ),
]
Where = Annotated[
    list[str] | None,
    Parameter(
        name="--where",
        metavar="KEY=VALUE",
        help="Fix conditions: class=3 colour=red caption='a red cat'; may be repeated.",
    ),
]


def spread(words: Sequence[str]) -> list[str]:
    """``--set a=1 b=2 DATA`` as ``--set=a=1 --set=b=2 DATA``: a flag takes the pairs that follow it."""
    out: list[str] = []
    flag, taken = "", False
    for i, word in enumerate(words):
        if word == "--":
            return [*out, *([flag] if flag and not taken else []), *words[i:]]
        if flag and not word.startswith("-") and (not taken or _PAIR.match(word)):
            out.append(f"{flag}={word}")
            taken = True
            continue
        if flag and not taken:
            out.append(flag)
        flag, taken = (word, False) if word in PAIR_FLAGS else ("", False)
        if not flag:
            out.append(word)
    return [*out, *([flag] if flag and not taken else [])]


def pairs(texts: Sequence[str] | None, flag: str) -> list[tuple[str, str]]:
    """``key=value`` texts, taken apart.

    Raises:
        UserError: one has no key or no ``=``.
    """
    out = []
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UserError(
                f"{flag} {text} is not a pair: write {flag} {key.strip() or 'key'}=VALUE, no spaces around ="
            )
        out.append((key.strip(), value.strip()))
    return out


def conditions(texts: Sequence[str] | None) -> dict[str, Any]:
    """What ``--where`` fixes: a text for each key, and of captions also several; UserError where another key is given
    twice."""
    out: dict[str, Any] = {}
    for key, value in pairs(texts, "--where"):
        if key == CAPTION and key in out:
            out[key] = [*([out[key]] if isinstance(out[key], str) else out[key]), value]
            continue
        if out.get(key, value) != value:
            raise UserError(f"--where names {key} twice ({out[key]} and {value}): give it once")
        out[key] = value
    return out


def file_leaves(path: Path) -> dict[str, Any]:
    """The dotted leaves of a recipe file: nested or dotted, or a run's own ``recipe.yaml``."""
    from kuosan.recipes.schema import NetworkPart, read_yaml

    if not path.is_file():
        raise UserError(
            f"there is no recipe file at {path}: give --config a YAML file, such as a run's recipe.yaml"
        )
    tree = read_yaml(path)
    if "format" in tree and isinstance(tree.get("recipe"), dict):
        network = tree.get("network") or {}
        parts = {k: v for k, v in tree["recipe"].items() if k not in ("init", "network")}
        own = {k: v for k, v in (tree["recipe"].get("network") or {}).items() if v is not None}
        parts["network"] = own | {k: v for k, v in network.items() if k in NetworkPart.model_fields}
        tree = parts
    leaves = dict(_flat(tree, ""))
    leaves.pop("data.path", None)
    return leaves


def _flat(tree: dict[str, Any], prefix: str) -> list[tuple[str, Any]]:
    from kuosan.recipes.schema import read_value

    out: list[tuple[str, Any]] = []
    for key, value in tree.items():
        if isinstance(value, dict):
            out += _flat(value, f"{prefix}{key}.")
        else:
            out.append((f"{prefix}{key}", read_value(value) if isinstance(value, str) else value))
    return out


def at_least(flag: str, value: float | None, low: float = 1) -> None:
    """UserError unless ``value`` is left away or a number from ``low`` on."""
    if value is not None and not (math.isfinite(value) and value >= low):
        raise UserError(f"{flag} {value} is out of range: give a number of {low:g} or more")


def seed(value: int) -> int:
    """UserError unless a seed is a whole number that fits 63 bits."""
    if not 0 <= value < 2**63:
        raise UserError(f"--seed {value} is out of range: give a whole number from 0 to {2**63 - 1}")
    return value
