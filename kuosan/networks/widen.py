"""More values of conditions for a network that has learned some, without a change to what it has learned.

The network's rows stand in a table, a row per value and one for *null*, "unknown" (`conditions`). For new values

    row(new value) = row(null),      row(any value of a new column) = 0                            (1)

so that a network which is given more values says of each the same as of an unknown one, to the bit, until it learns
more. A network over tokens without conditions has no way from a row into its blocks; it gets one that starts at zero,
and rows that differ, or no gradient would tell them apart.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Columns = Mapping[str, Sequence[str]]
TABLE, CLASSES = (
    "table",
    "unet.class_embedding",
)  # where rows stand: ours, and diffusers' own of a single column
WIDENED = ("transformer", "unet", "tokens")  # kinds of networks that have a place for conditions


def whole(network: Mapping[str, Any], columns: Columns) -> list[str]:
    """The modules that hold rows, and whatever else is new, in a network that is widened to ``columns``."""
    if not columns:
        return []
    if network["kind"] == "unet":
        return [CLASSES if len(columns) == 1 else TABLE]
    new = network["kind"] == "tokens" and not network["timed"] and not network["conditions"]
    return [TABLE, "modulation"] if new else [TABLE]


def widened(
    weights: Mapping[str, Tensor],
    network: Mapping[str, Any],
    old: Columns,
    new: Columns,
    prefix: str = "network.",
) -> dict[str, Tensor]:
    """The weights of a network for the columns ``new``, which hold all of ``old``, as eq. 1 has it.

    Args:
        weights: by name, each network's behind ``prefix``.
        network: the specification that they are of.
    """
    out = dict(weights)
    if {k: list(v) for k, v in old.items()} == {k: list(v) for k, v in new.items()}:
        return out
    unet = network["kind"] == "unet"
    name = {True: f"{prefix}{CLASSES}.weight", False: f"{prefix}{TABLE}.rows"}
    rows = out.pop(name[unet and len(old) == 1])
    out.setdefault(name[False], rows.new_empty(0, rows.shape[1]))
    found, first = {}, 0
    for column, values in old.items():
        found[column] = rows[first : first + len(values) + 1]
        first += len(values) + 1
    made = []
    for column, values in new.items():
        if column not in old:
            made.append(rows.new_zeros(len(values) + 1, rows.shape[1]))
            continue
        known = {value: i for i, value in enumerate(old[column])}
        null = len(old[column])
        made.append(found[column][[*(known.get(value, null) for value in values), null]])
    table = torch.cat(made)
    if "modulation" in whole(network, new):
        dim, depth = network["dim"], network["depth"]
        out[f"{prefix}modulation.weight"] = rows.new_zeros((6 * depth + 2) * dim, dim)
        out[f"{prefix}modulation.bias"] = rows.new_zeros((6 * depth + 2) * dim)
        names = [f"{column}={value}" for column, values in new.items() for value in (*values, "")]
        for row, named in zip(table, names, strict=True):  # whatever other values there are
            row.normal_(generator=torch.Generator().manual_seed(zlib.crc32(named.encode())))
    out[name[unet and len(new) == 1]] = table
    return out
