"""Automata over the tokens of a vocabulary.

A token is a string of bytes, so it moves an automaton over characters from state s to δ(s, token): one map of all
states per token, composed character by character. Two things are added.

- A token may end inside a character. A state over tokens is then a pair (state, node of `utf8` that waits for the
  rest); a text may not end there.
- END. It is allowed exactly where the text may end, and nothing but END follows it. A text that fills the window
  needs none.

What a network pays for is not states times tokens: tokens that act alike in every state are one class, and all
tokens that lead from s to s' are one *set*, of which few are different. A position's probabilities are summed once
per set; the recursions (`chain`) then run along edges (s, set, s'). In a window of L tokens only those
edges count at a position that the start can reach by then and from which the rest of the window suffices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from kuosan.errors import UserError
from kuosan.guidance.language.automaton import DEAD, Automaton, can_accept, smallest
from kuosan.guidance.language.utf8 import Utf8, utf8

_CHUNK = 16_384


@dataclass(frozen=True)
class Step:
    """The edges that count at one position: from which of its states, into which of the next position's, on which
    token set. One edge more, the last, pads tables: its set is one past the last, whose probability is always 0.

    ``out`` (s, d) lists the edges out of each state.
    """

    source: Int64[Tensor, " e"]
    into: Int64[Tensor, " e"]
    sets: Int64[Tensor, " e"]
    out: Int64[Tensor, "s d"]
    following: int  # how many states count at the next position

    def chunks(self) -> list[slice]:
        """The edges in portions whose numbers stay in a processor's cache, which is five times faster."""
        return [slice(i, i + _CHUNK) for i in range(0, len(self.source), _CHUNK)]

    def to(self, device: torch.device) -> Step:
        source, into, sets, out = (x.to(device) for x in (self.source, self.into, self.sets, self.out))
        return Step(source, into, sets, out, self.following)


@dataclass(frozen=True, eq=False)
class TokenAutomaton:
    """Which sequences of tokens satisfy a constraint; made by `lift`.

    Args:
        edges: (e, 3) state, next state, number of the token set between them; state 0 is the start.
        accepting: (states,) where a full window may end; the last state is behind END.
        classes: (size,) the class of each token.
        members: (sets, classes) 1 where the class belongs to the set, 0 elsewhere.
        what: the constraint in words, for messages.
        pieces: the bytes of every token.
    """

    edges: NDArray[np.int64]
    accepting: NDArray[np.bool_]
    classes: Int64[Tensor, " size"]
    members: Float[Tensor, "sets classes"]
    what: str
    pieces: tuple[bytes, ...]
    _steps: dict[tuple[int, torch.device], list[Step]] = field(default_factory=dict, repr=False)

    def steps(self, window: int, device: torch.device) -> list[Step]:
        """The edges that count at each position of a window, on ``device``; kept, as sampling asks again.

        Raises:
            UserError: no text of so few tokens satisfies the constraint.
        """
        cpu = torch.device("cpu")
        if (window, cpu) not in self._steps:
            self._steps[window, cpu] = self._plan(window)
        if (window, device) not in self._steps:
            moved = {id(s): s.to(device) for s in self._steps[window, cpu]}
            self._steps[window, device] = [moved[id(s)] for s in self._steps[window, cpu]]
        return self._steps[window, device]

    def token_counts(self, window: int) -> list[int]:
        """The numbers of tokens, up to ``window`` and without END, that an accepted text may have."""
        end = len(self.accepting) - 1
        source, target, _ = self.edges[self.edges[:, 1] != end].T
        reached = np.arange(end) == 0
        counts = []
        for k in range(window + 1):
            counts += [k] if (reached & self.accepting[:end]).any() else []
            ahead = np.zeros_like(reached)
            ahead[target[reached[source]]] = True
            reached = ahead
        return counts

    def _plan(self, window: int) -> list[Step]:
        source, target, _ = self.edges.T
        reached, alive = np.zeros((2, window + 1, len(self.accepting)), dtype=bool)
        reached[0, 0], alive[window] = True, self.accepting
        for i in range(window):
            reached[i + 1, target[reached[i, source]]] = True
            alive[window - i - 1, source[alive[window - i, target]]] = True
        active = reached & alive
        if not active[0, 0]:
            raise UserError(
                f"no text of {window} tokens or fewer satisfies {self.what}: loosen it, or widen the window"
            )
        # Most positions see the same edges, and share one table.
        known: dict[tuple[bytes, bytes], Step] = {}
        steps = []
        for now, then in zip(active[:-1], active[1:], strict=True):
            key = (now.tobytes(), then.tobytes())
            if key not in known:
                known[key] = self._step(now, then)
            steps.append(known[key])
        return steps

    def _step(self, now: NDArray[np.bool_], then: NDArray[np.bool_]) -> Step:
        edges = self.edges[now[self.edges[:, 0]] & then[self.edges[:, 1]]]
        source, into = (np.cumsum(now) - 1)[edges[:, 0]], (np.cumsum(then) - 1)[edges[:, 1]]
        count = np.bincount(source, minlength=int(now.sum()))
        out = np.full((len(count), count.max()), len(edges))
        place = np.arange(len(edges)) - np.repeat(
            np.cumsum(count) - count, count
        )  # edges are sorted by source
        out[source, place] = np.arange(len(edges))

        def padded(column: NDArray[np.int64], last: int) -> Tensor:
            return torch.from_numpy(np.append(column, last))

        sets = padded(edges[:, 2], len(self.members))
        return Step(padded(source, 0), padded(into, 0), sets, torch.from_numpy(out), int(then.sum()))


def lift(automaton: Automaton, pieces: Sequence[bytes], end: int) -> TokenAutomaton:
    """The constraint over the tokens of a vocabulary.

    Args:
        automaton: the constraint over characters.
        pieces: the UTF-8 bytes of every token.
        end: the number of END. Any other token without bytes is never allowed: the text would not show it.

    Raises:
        UserError: no sequence of these tokens satisfies the constraint.
    """
    reader = utf8(automaton.classes)
    nodes, behaviour = _behaviours(reader, pieces, end)
    table, classes = _table(automaton, nodes, behaviour)
    accepting = np.zeros(len(table), dtype=bool)
    accepting[: len(automaton.table)] = automaton.accepting  # node 0, between characters
    if not can_accept(table, accepting)[0]:
        raise UserError(
            f"the vocabulary cannot write any text that satisfies {automaton.what}: "
            "it lacks characters that are needed, so loosen the constraint or train on text that has them"
        )
    table, accepting = smallest(table, accepting)
    table, merged = np.unique(table, axis=1, return_inverse=True)
    return _with_end(table, accepting, merged.reshape(-1)[classes], end, automaton.what, tuple(pieces))


Behaviour = tuple[tuple[tuple[int, ...], int] | None, ...]
"""For each node where a token may begin: the classes of characters it completes and the node where it ends."""


def _behaviours(reader: Utf8, pieces: Sequence[bytes], end: int) -> tuple[list[int], list[Behaviour]]:
    nodes, columns = [0], []
    for node in nodes:
        column = [reader.read(p, node) if p and v != end else None for v, p in enumerate(pieces)]
        nodes.extend(dict.fromkeys(r[1] for r in column if r and r[1] not in nodes))
        columns.append(column)
    return nodes, list(zip(*columns, strict=True))


def _table(
    automaton: Automaton, nodes: list[int], behaviour: list[Behaviour]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(nodes · states, classes) the next pair of node and state, node by node; (size,) the class of each token."""
    states = len(automaton.table)
    after = np.vstack([automaton.table, np.full((1, automaton.table.shape[1]), DEAD)])  # index -1 is DEAD too
    maps: dict[tuple[int, ...], NDArray[np.int64]] = {(): np.arange(states)}

    def walk(word: tuple[int, ...]) -> NDArray[np.int64]:
        if word not in maps:
            maps[word] = after[walk(word[:-1]), word[-1]]
        return maps[word]

    place = {node: i * states for i, node in enumerate(nodes)}
    columns: dict[bytes, int] = {}
    kinds: dict[Behaviour, int] = {}
    for kind in behaviour:
        if kind not in kinds:
            column = np.full((len(nodes), states), DEAD)
            for i, result in enumerate(kind):
                if result:
                    to = walk(result[0])
                    column[i] = np.where(to == DEAD, DEAD, to + place[result[1]])
            kinds[kind] = columns.setdefault(column.tobytes(), len(columns))
    table = np.array([np.frombuffer(column, dtype=np.int64) for column in columns])
    return table.T, np.array([kinds[kind] for kind in behaviour])


def _with_end(
    table: NDArray[np.int64],
    accepting: NDArray[np.bool_],
    classes: NDArray[np.int64],
    end: int,
    what: str,
    pieces: tuple[bytes, ...],
) -> TokenAutomaton:
    """Add END and the state behind it, and list the edges and their token sets."""
    states, width = table.shape
    table = np.pad(table, ((0, 1), (0, 1)), constant_values=DEAD)
    table[np.append(accepting, True), width] = states
    classes[end] = width
    sets: dict[bytes, int] = {}
    edges: list[tuple[int, int, int]] = []
    members: list[NDArray[np.bool_]] = []
    for state, row in enumerate(table):
        for target in np.unique(row[row != DEAD]).tolist():
            held = row == target
            key = held.tobytes()
            if key not in sets:
                sets[key] = len(members)
                members.append(held)
            edges.append((state, target, sets[key]))
    return TokenAutomaton(
        np.array(edges),
        np.append(accepting, True),
        torch.from_numpy(classes),
        torch.from_numpy(np.array(members)).double(),
        what,
        pieces,
    )
