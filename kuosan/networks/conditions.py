"""Categorical conditions: one embedding table for all columns, and how a batch of columns indexes it.

A condition column with n values owns n + 1 rows; row n is the *null* row, "unknown" or "none given", which
classifier-free guidance trains and uses. All columns live in one table, one after the other, so that any
number of columns costs one gather, and a column may bear any name (a `ModuleDict` refuses names such as
`type` or `items`, which people's data do have).

What was done to a training picture (`training.augment`) comes in beside them, as a vector: a linear map of it is added,
without a constant, so that the vector 0, or none, is no augmentation at all.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

AUGMENT = "(augmentation)"  # no column of a table bears this name


class ConditionTable(nn.Module):
    """Sum over columns of one learned row each.

    Args:
        conditions: column → number of values n; the index n itself stands for null.
        dim: length of a row.
        augment: length of the vector that tells of augmentations; 0: there are none.
    """

    offsets: Tensor
    nulls: Tensor

    def __init__(self, conditions: Mapping[str, int], dim: int, augment: int = 0) -> None:
        super().__init__()
        self.conditions = dict(conditions)
        if bad := [name for name, n in self.conditions.items() if n < 1]:
            raise ValueError(f"condition columns need at least one value: {bad}")
        sizes = torch.tensor([n + 1 for n in self.conditions.values()], dtype=torch.int64)
        first = sizes.cumsum(0) - sizes
        self.register_buffer("offsets", first, persistent=False)
        self.register_buffer("nulls", first + sizes - 1, persistent=False)
        self.rows = nn.Parameter(torch.empty(int(sizes.sum()), dim))
        self.augment = nn.Parameter(torch.zeros(augment, dim)) if augment else None

    def forward(self, cond: Mapping[str, Tensor], batch: int) -> Float[Tensor, "b d"]:
        """The summed rows; a column that is not given counts as null.

        Raises:
            ValueError: a column that the network does not have, or an index outside 0…n.
        """
        if self.augment is not None and AUGMENT in cond:
            rest = {name: column for name, column in cond.items() if name != AUGMENT}
            return self(rest, batch) + cond[AUGMENT].to(self.augment) @ self.augment
        if unknown := sorted(set(cond) - set(self.conditions)):
            raise ValueError(f"unknown condition {unknown}; this network has {sorted(self.conditions)}")
        columns = []
        for k, (name, n) in enumerate(self.conditions.items()):
            given = cond.get(name)
            if given is None:
                columns.append(self.nulls[k].expand(batch))
                continue
            # On an accelerator this check would wait for the device, where the gather itself traps; compiled, it would
            # cut the network in two.
            if (
                not torch.compiler.is_compiling()
                and given.device.type == "cpu"
                and given.numel()
                and not 0 <= int(given.min()) <= int(given.max()) <= n
            ):
                raise ValueError(f"condition {name!r} holds an index outside 0…{n} ({n} is null)")
            columns.append(given + self.offsets[k])
        if not columns:
            return self.rows.new_zeros(batch, self.rows.shape[1])
        if len(columns) == 1:
            return nn.functional.embedding(columns[0], self.rows)
        return nn.functional.embedding(torch.stack(columns, 1), self.rows).sum(1)

    def column(self, name: str) -> Float[Tensor, "n+1 d"]:
        """The rows of one column, the null row last."""
        k = list(self.conditions).index(name)
        first = int(self.offsets[k])
        return self.rows[first : first + self.conditions[name] + 1]
