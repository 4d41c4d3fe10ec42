"""What is written of voices, revised: after the end there is nothing, and notes that make faults are written again,
until there are as few as in the music.

A young model of music writes several times as many parallel fifths, crossings and the like (`evaluation.music.faults`)
as the music that it learned from. So a passage x with more faults than it is allowed has the notes F of its faults
masked and drawn again by the model itself, all other notes given, and the new passage is kept if it has fewer:

    x'_F ~ p(x_F | x_rest),    x ← x' if faults(x') < faults(x)                                                 (1)

at most `ROUNDS` times: blocked Gibbs sampling (as in Huang et al. 2017) that never goes uphill. How many are allowed is
drawn for every passage by its own key from those that passages of training have, per bar: a chorale keeps about as many
as a chorale has, and music that takes no notice of such rules keeps its own. What is given stays as it is.

A piece of training ends in all voices at once, and for good. A young model writes notes after an end now and then;
they are taken away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.evaluation.music.bars import Bars, bars_of
from kuosan.evaluation.music.faults import fault_places, faults
from kuosan.modalities.music_form import END
from kuosan.recipes.facts import Facts
from kuosan.recipes.kept import read_kept
from kuosan.recipes.music_measure import metres_of, music_of
from kuosan.recipes.session import Session
from kuosan.recipes.text_measure import chosen
from kuosan.recipes.tokens import Rules, walk_tokens
from kuosan.solvers import Step
from kuosan.training.checkpoint import write_json

if TYPE_CHECKING:
    from kuosan.recipes.run import Run

ALLOWED = "grids/voice_leading.json"
ROUNDS, STEPS = 16, 32
COST = 2.0  # of drawing and revising, in the time of drawing
QUANTILES, MOST_REAL = 101, 1_000


def allowed_of(facts: Facts, path: Path) -> tuple[float, ...] | None:
    """Quantiles of the faults per bar that passages of a run over voices may have; None where what the model writes
    stands.

    Raises:
        UserError: what the end of training kept cannot be read.
    """
    asked, file = facts.recipe.sampling.faults, path / ALLOWED
    if asked != "auto":
        return None if asked == "any" else (float(asked),)
    found = read_kept(file, "faults per bar", lambda tree: tuple(sorted(map(float, tree["faults_per_bar"]))))
    return found or None


def keep_allowed(run: Run, session: Session) -> None:
    """Keep with a run how many faults passages of training have."""
    if run.facts.recipe.sampling.faults != "auto":
        return
    items = chosen(run, session.data.train, MOST_REAL)
    x, cond = items.batch(torch.arange(len(items)))
    bars = bars_of(music_of(run).form, x, metres_of(run, cond, len(x)))
    per_bar = torch.quantile(count(bars) / bars.bars.clamp_min(1.0), torch.linspace(0, 1, QUANTILES).double())
    write_json(run.path / ALLOWED, {"faults_per_bar": [round(q, 4) for q in per_bar.tolist()]})


def count(bars: Bars) -> Float[Tensor, " n"]:
    """All faults of each window."""
    return torch.stack(list(faults(bars).values())).sum(0)


@dataclass(frozen=True)
class Passages:
    """What is revised: tokens of b windows, which of them may be written anew, and what their faults depend on."""

    run: Run
    x: Int64[Tensor, "b l"]
    free: Bool[Tensor, "b l"]
    cond: Mapping[str, Tensor]

    def take(self, index: Tensor) -> Passages:
        """Some of them."""
        cond = {k: v[index.to(v.device)] for k, v in self.cond.items()}
        return Passages(self.run, self.x[index], self.free[index], cond)

    def bars(self) -> Bars:
        """As what is measured."""
        return bars_of(music_of(self.run).form, self.x, metres_of(self.run, self.cond, len(self.x)))

    def masked(self) -> Int64[Tensor, "b l"]:
        """Without the notes of their faults, from beginning to end."""
        form, bars = music_of(self.run).form, self.bars()
        sounds = bars.pitch >= 0
        note = (bars.onset | (sounds != sounds.roll(1, 1))).long().cumsum(1)  # its number, or that of a rest
        marked = F.pad(torch.zeros_like(note), (0, 0, 0, 1)).scatter_add_(1, note, fault_places(bars).long())
        hit = marked.gather(1, note) > 0
        return torch.where(hit.flatten(1) & self.free, form.size, self.x)


def ended(x: Int64[Tensor, "b l"], free: Bool[Tensor, "b l"], lanes: int) -> Int64[Tensor, "b l"]:
    """Nothing but `END` after a step in which all lanes have it, unless notes after it are not ``free``, or none came
    before it."""
    rows = x.view(len(x), -1, lanes)
    end = (rows == END).all(2)
    after = end.cumsum(1) > 0
    given = ((~free & (x != END)).view(rows.shape).any(2) & after).any(1)
    return torch.where((after & ~(given | end[:, 0])[:, None])[..., None], END, rows).view_as(x)


def revise(
    run: Run,
    walk: Iterator[Step],
    seeds: Seeds,
    cond: Mapping[str, Tensor],
    w: float | None,
    rules: Rules | None,
) -> Iterator[Step]:
    """The same walk, its end revised."""
    last: Step | None = None
    for step in walk:
        if last is not None:
            yield last
        last = step
    if last is not None:
        yield last._replace(x=_revised(run, last.x, seeds, cond, w, rules))


def _revised(
    run: Run, x: Tensor, seeds: Seeds, cond: Mapping[str, Tensor], w: float | None, rules: Rules | None
) -> Tensor:
    """Eq. 1, round by round, of those that still have too many."""
    device, x = x.device, x.cpu().clone()
    permitted = None if rules is None else rules.permitted
    given = None if rules is None or rules.given is None else rules.given.cpu().expand_as(x)
    free = torch.ones_like(x, dtype=torch.bool) if given is None else given == music_of(run).form.size
    x = ended(x, free, music_of(run).form.lanes)
    if run.allowed is None:
        return x.to(device)
    passages = Passages(run, x, free, cond)
    bars = passages.bars()
    now, quantiles = count(bars), torch.tensor(run.allowed, dtype=torch.float64)
    place = seeds.fold("faults").uniforms() * len(quantiles)
    may = (quantiles[place.long().clamp_max(len(quantiles) - 1)] * bars.bars).round()
    for k in range(ROUNDS):
        bad = (now > may).nonzero()[:, 0]
        if not len(bad):
            break
        mine = passages.take(bad)
        hidden = mine.masked()
        if torch.equal(hidden, mine.x):
            break  # what is at fault was given
        again = Rules(hidden, permitted=permitted)
        for step in walk_tokens(
            run,
            seeds.take(bad.tolist()).fold("revision", k),
            mine.cond,
            STEPS,
            "first-hitting",
            w=w,
            rules=again,
        ):
            new = step.x.cpu()
        new = ended(new, mine.free, music_of(run).form.lanes)
        counted = count(Passages(run, new, mine.free, mine.cond).bars())
        better = counted < now[bad]
        x[bad[better]], now[bad[better]] = new[better], counted[better]
    return x.to(device)
