"""The constrained posterior against enumeration: every text of a small window, weighed by the network's posterior."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from kuosan.core.posteriors import Categorical
from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.guidance.language import Accepted, Automaton, containing, length, lift, matching
from kuosan.guidance.language.chain import FLOOR, invert

CHARACTERS = (b"a", b"b", b"c", b"")
PIECES = (
    b"",
    b"a",
    b"ab",
    b"bca",
    b"b",
    b"c",
    b"",
)  # END first; the last writes nothing and is never allowed
BYTES = (
    b"\xe4",
    b"\xb8",
    b"\xad",
    b"\x80",
    b"a",
    b"",
)  # 中 is e4 b8 ad, 一 is e4 b8 80, and 丸-like ones are e4 b8 b8


def text_of(row: tuple[int, ...], pieces: tuple[bytes, ...], end: int) -> str | None:
    """What a row of tokens writes; None where it is not well-formed."""
    stop = row.index(end) if end in row else len(row)
    if any(v != end for v in row[stop:]) or any(not pieces[v] for v in row[:stop]):
        return None
    try:
        return b"".join(pieces[v] for v in row[:stop]).decode()
    except UnicodeDecodeError:
        return None


CASES = [
    pytest.param(matching("(a|b)*abb"), CHARACTERS, 3, 4, id="regex"),
    pytest.param(containing("ab", "c") & length(2, 4), CHARACTERS, 3, 4, id="words"),
    pytest.param(matching("[ab]{2,3}[abc]?"), CHARACTERS, 3, 4, id="classes of several"),
    pytest.param(containing("ca") & ~containing("bb"), PIECES, 0, 4, id="pieces"),
    pytest.param(matching("[a中]{1,3}") & ~matching("aa"), BYTES, 5, 5, id="bytes"),
]


def exact(
    automaton: Automaton, pieces: tuple[bytes, ...], end: int, log_q: Tensor, written: tuple[int, ...]
) -> dict[tuple[int, ...], float]:
    """Every accepted row that keeps what is written, and its probability; log_q is (L, size)."""
    size = len(pieces)
    weights = {}
    for row in itertools.product(range(size), repeat=len(log_q)):
        text = text_of(row, pieces, end)
        if text is None or not automaton.accepts(text):
            continue
        if all(w in (size, v) for v, w in zip(row, written, strict=True)):
            hidden = [
                log_q[i, v].item() for i, (v, w) in enumerate(zip(row, written, strict=True)) if w == size
            ]
            weights[row] = math.exp(sum(hidden))
    return weights


def logits(window: int, size: int, seed: int, batch: int = 1, spread: float = 2.0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return spread * torch.randn(batch, window, size, generator=g, dtype=torch.float64)


def states(automaton: Automaton, pieces: tuple[bytes, ...], end: int, window: int) -> list[tuple[int, ...]]:
    """Nothing written, and some of one accepted text written."""
    size = len(pieces)
    flat = torch.zeros(window, size)
    some = sorted(exact(automaton, pieces, end, flat, (size,) * window))
    row = some[len(some) // 2]
    return [
        (size,) * window,
        (row[0], *(size,) * (window - 1)),
        tuple(v if i % 2 else size for i, v in enumerate(row)),
    ]


@pytest.mark.parametrize(("automaton", "pieces", "end", "window"), CASES)
def test_marginals_and_acceptance_are_those_of_enumeration(automaton, pieces, end, window) -> None:
    lifted, size = lift(automaton, pieces, end), len(pieces)
    for seed, written in enumerate(states(automaton, pieces, end, window)):
        q = Categorical(logits(window, size, seed))
        weights = exact(automaton, pieces, end, q.logits[0].log_softmax(-1), written)
        total = sum(weights.values())
        wanted = torch.zeros(window, size, dtype=torch.float64)
        for row, weight in weights.items():
            wanted[range(window), row] += weight / total
        p = Accepted(q, torch.tensor([written]), lifted)
        torch.testing.assert_close(p.mean[0], wanted, rtol=1e-10, atol=1e-14)
        assert p.log_acceptance.item() == pytest.approx(math.log(total), abs=1e-10)
        torch.testing.assert_close(p.logits.exp(), p.mean)


@pytest.mark.parametrize(("automaton", "pieces", "end", "window"), CASES)
def test_draws_follow_the_joint_law(automaton, pieces, end, window) -> None:
    lifted, size, n = lift(automaton, pieces, end), len(pieces), 4000
    for seed, written in enumerate(states(automaton, pieces, end, window)[:2]):
        log_q = logits(window, size, 10 + seed, spread=1.0)
        weights = exact(automaton, pieces, end, log_q[0].log_softmax(-1), written)
        q = Categorical(log_q.expand(n, -1, -1))
        drawn = Accepted(q, torch.tensor([written]).expand(n, -1), lifted).sample(Seeds.of(seed, n))
        counts = dict.fromkeys(weights, 0)
        for row in map(tuple, drawn.tolist()):
            counts[row] += 1  # a violation has no entry: KeyError
        expected = n * np.array(list(weights.values())) / sum(weights.values())
        seen = np.array(list(counts.values()))
        rare = expected < 5  # too few for the test each, so together
        seen, expected = (
            np.append(seen[~rare], seen[rare].sum()),
            np.append(expected[~rare], expected[rare].sum()),
        )
        assert (expected > 0).sum() > 1
        assert stats.chisquare(seen[expected > 0], expected[expected > 0]).pvalue > 1e-4


def test_without_a_constraint_the_posterior_is_untouched() -> None:
    # Over windows that END cannot enter, "everything" is no constraint at all.
    lifted = lift(matching("(?s:.{6,})"), CHARACTERS, 3)
    q = Categorical(logits(6, 4, 0, batch=3))
    p = Accepted(q, torch.full((3, 6), 4), lifted)
    without_end = q.logits.clone()
    without_end[..., 3] = -torch.inf
    torch.testing.assert_close(p.mean, without_end.softmax(-1), rtol=1e-12, atol=0)
    torch.testing.assert_close(p.log_acceptance, q.mean[..., :3].sum(-1).log().sum(-1))


def test_everything_that_ends_once_is_everything() -> None:
    # With END, all texts: the length's law is that of the first END, if all behind it agree.
    window = 3
    lifted = lift(matching("(?s:.*)"), CHARACTERS, 3)
    q = Categorical(logits(window, 4, 1))
    p = Accepted(q, torch.full((1, window), 4), lifted)
    ends = q.mean[0, :, 3]
    weights = torch.stack([(1 - ends[:n]).prod() * ends[n:].prod() for n in range(window + 1)])
    shorter = weights.cumsum(0)[:-1] / weights.sum()  # END stands at position n for texts of n or fewer
    torch.testing.assert_close(p.mean[0, :, 3], shorter)


def test_what_the_network_rules_out_stays_possible_where_it_is_demanded() -> None:
    lifted = lift(matching("abca"), CHARACTERS, 3)
    ruled_out = torch.zeros(1, 6, 4, dtype=torch.float64)
    ruled_out[..., :3] = -torch.inf  # END everywhere, says the network
    p = Accepted(Categorical(ruled_out), torch.full((1, 6), 4), lifted)
    assert p.sample(Seeds.of(0, 1)).tolist() == [[0, 1, 2, 0, 3, 3]]
    assert p.log_acceptance.item() == pytest.approx(4 * math.log(FLOOR))
    assert p.mean[0, range(6), [0, 1, 2, 0, 3, 3]].tolist() == pytest.approx([1.0] * 6)


def test_nothing_underflows_however_unlikely() -> None:
    """Two texts are left, each against the network's word at every position: their odds are known in closed form."""
    window = 1024
    lifted = lift(matching("a*|b*c") & length(window), CHARACTERS, 3)
    log_q = torch.tensor([-60.0, -60.0, -60.0, 0.0], dtype=torch.float64).expand(1, window, 4).clone()
    log_q[0, 3, 0] += 0.25
    p = Accepted(Categorical(log_q), torch.full((1, window), 4), lifted)
    odds = math.exp(0.25) / (1 + math.exp(0.25))
    torch.testing.assert_close(p.mean[0, :, 0], torch.full((window,), odds, dtype=torch.float64))
    assert p.log_acceptance.item() == pytest.approx(-60 * window + math.log(1 + math.exp(0.25)), rel=1e-9)


def test_states_may_be_further_apart_than_numbers_reach() -> None:
    """What is written allows only the branch that the network finds e^-4000 times less likely than the other."""
    window = 60
    lifted = lift(matching("ab{59}|ca{59}"), CHARACTERS, 3)
    log_q = torch.zeros(1, window, 4, dtype=torch.float64)
    log_q[..., 1] = -70.0
    written = torch.full((1, window), 4)
    written[0, 0] = 0
    p = Accepted(Categorical(log_q), written, lifted)
    wanted = 59 * log_q[0, 0].log_softmax(-1)[1].item()
    assert p.log_acceptance.item() == pytest.approx(wanted, rel=1e-12)
    assert p.sample(Seeds.of(0, 1)).tolist() == [[0] + [1] * 59]
    assert p.mean[0, 30].tolist() == pytest.approx([0, 1, 0, 0])


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32])
def test_lower_precision_keeps_every_promise_but_digits(kind: torch.dtype) -> None:
    lifted, x_t = lift(matching("abca|b+c"), CHARACTERS, 3), torch.full((2, 6), 4)
    q = logits(6, 4, 2, batch=2, spread=9.0).to(kind)
    q[..., 2] = -torch.inf
    wanted = Accepted(Categorical(q.double()), x_t, lifted)
    got = Accepted(Categorical(q), x_t, lifted)
    torch.testing.assert_close(got.mean.double(), wanted.mean, rtol=1e-4, atol=1e-6)
    assert got.sample(Seeds.of(0, 2)).tolist() == wanted.sample(Seeds.of(0, 2)).tolist()


def test_a_sample_does_not_depend_on_its_neighbours() -> None:
    lifted = lift(containing("ab") & length(4, 8), PIECES, 0)
    q = Categorical(logits(8, len(PIECES), 5, batch=6))
    x_t = torch.full((6, 8), len(PIECES))
    together = Accepted(q, x_t, lifted).sample(Seeds.of(3, 6))
    for i in range(6):
        alone = Accepted(Categorical(q.logits[i : i + 1]), x_t[:1], lifted).sample(Seeds.of(3, [i]))
        assert alone.tolist() == [together[i].tolist()]


def test_impossible_states_are_named() -> None:
    lifted = lift(matching("a+b"), CHARACTERS, 3)
    x_t = torch.tensor([[4, 4, 4, 4], [4, 2, 4, 4]])
    with pytest.raises(UserError, match=r"'a\+b'.*'□c□□' \(example 1"):
        Accepted(Categorical(logits(4, 4, 0, batch=2)), x_t, lifted)
    with pytest.raises(UserError, match="no text of 3 tokens or fewer satisfies a length"):
        Accepted(Categorical(logits(3, 4, 0)), torch.full((1, 3), 4), lift(length(4, 9), CHARACTERS, 3))
    with pytest.raises(UserError, match="vocabulary cannot write"):
        lift(matching("ad*x"), CHARACTERS, 3)


@pytest.mark.parametrize("k", [3, 1000])
def test_inversion_never_picks_what_has_no_weight(k: int) -> None:
    g = torch.Generator().manual_seed(k)
    weights = torch.rand(200, k, generator=g) * (torch.rand(200, k, generator=g) < 0.2)
    weights[:, k // 2] += 0.01
    weights[:, -1] = 0
    for u in (0.0, 1 - 2.0**-53, 1.0):
        picked = invert(weights, torch.full((200,), u, dtype=torch.float64))
        assert (weights[range(200), picked] > 0).all()
    one = weights[:1].expand(20_000, k)
    picked = invert(one, (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000)
    share = torch.bincount(picked, minlength=k) / 20_000
    torch.testing.assert_close(share, weights[0] / weights[0].sum(), atol=1.1e-4, rtol=0)
