"""Whatever an untrained network says, and however few steps are taken, no text violates its constraint."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kuosan.core.curves import LinearSurvival
from kuosan.core.posteriors import Categorical, Point
from kuosan.core.random import Seeds
from kuosan.core.shapes import Time
from kuosan.denoisers.base import Denoiser
from kuosan.errors import UserError
from kuosan.guidance import ClassifierFree
from kuosan.guidance.language import (
    Accepted,
    Constrained,
    avoiding,
    containing,
    json_schema,
    length,
    lift,
    matching,
    starting,
)
from kuosan.processes.discrete import Masked, UniformNoise
from kuosan.solvers.ancestral import Ancestral
from kuosan.solvers.base import sample

ASCII = tuple(bytes([c]) for c in (10, *range(32, 127))) + (b"",)
BYTES = tuple(bytes([c]) for c in range(256)) + (b"",)
CHINESE = tuple(c.encode() for c in "春眠不觉晓处闻啼鸟夜来风雨声花落知多少，。\n") + (b"",)
WORDS = (
    b"",
    *ASCII[:-1],
    b"th",
    b"he",
    b"the",
    b"at",
    b" cat",
    b"cats",
    b"og",
    b"dog ",
    b'"a',
    b'": ',
    b"12",
    b"e c",
)


class Untrained(Denoiser):
    """A network with random weights: its logits depend on the whole state, on t and on a condition."""

    def __init__(self, process: Masked, window: int, seed: int = 0):
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        self.process, size = process, process.size
        self.embed = torch.randn(size + 1, 16, generator=g)
        self.place = torch.randn(window, 16, generator=g)
        self.out = torch.randn(16, size, generator=g)

    def forward(self, x_t: Tensor, t: Time, **cond: Tensor) -> Categorical:
        h = self.embed[x_t]
        h = (h + self.place + h.mean(1, keepdim=True) * 3).sin()
        for c in cond.values():
            h = h + c[:, None, None].to(h)
        return Categorical(2 * h @ self.out)


def is_person(text: str) -> bool:
    value = json.loads(text)
    assert set(value) <= {"name", "age", "tags"} and {"name", "age"} <= set(value)
    assert isinstance(value["name"], str) and 1 <= len(value["name"]) <= 6
    assert isinstance(value["age"], int) and 18 <= value["age"] <= 120
    return all(tag in ("x", "yy", None) for tag in value.get("tags", []))


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 6},
        "age": {"type": "integer", "minimum": 18, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["x", "yy", None]}, "maxItems": 3},
    },
    "required": ["name", "age"],
}
VERSE = r"([^，。\n]{5}，[^，。\n]{5}。\n?){2}"
SENTENCE = r"[A-Z][a-z]+( [a-z]+){2,5}\."
CASES = [
    (matching(SENTENCE), ASCII, 96, 32, lambda t: re.fullmatch(SENTENCE, t)),
    (matching(r"(\d{1,3}\.){3}\d{1,3}"), WORDS, 0, 20, lambda t: re.fullmatch(r"(\d{1,3}\.){3}\d{1,3}", t)),
    (json_schema(PERSON), ASCII, 96, 48, is_person),
    (json_schema(PERSON), WORDS, 0, 48, is_person),
    (
        containing("the", "cat") & avoiding("dog", "x") & length(10, 24),
        WORDS,
        0,
        24,
        lambda t: "the" in t and "cat" in t and "dog" not in t and "x" not in t and 10 <= len(t) <= 24,
    ),
    (matching(VERSE), CHINESE, len(CHINESE) - 1, 28, lambda t: re.fullmatch(VERSE, t)),
    (matching(r"[一-龥é]{3,5}!"), BYTES, 256, 20, lambda t: re.fullmatch(r"[一-龥é]{3,5}!", t)),
]  # fmt: skip


def texts(x: Tensor, pieces: tuple[bytes, ...], end: int) -> list[str]:
    rows = [row[: row.index(end)] if end in row else row for row in x.tolist()]
    return [b"".join(pieces[v] for v in row).decode() for row in rows]


@pytest.mark.parametrize(("steps", "n"), [(1, 740), (4, 240), (None, 20)])  # None: one for every token
@pytest.mark.parametrize(("automaton", "pieces", "end", "window", "holds"), CASES)
def test_no_sample_violates_its_constraint(
    automaton, pieces, end: int, window: int, holds: Callable[[str], object], steps: int | None, n: int
) -> None:
    denoiser = Constrained(
        Untrained(Masked(len(pieces), LinearSurvival()), window), lift(automaton, pieces, end)
    )
    seeds, grid = Seeds.of(1, n), torch.linspace(1, 0, (steps or window) + 1)
    start = denoiser.process.prior(torch.zeros(n, window, dtype=torch.int64), seeds)
    x = sample(denoiser, Ancestral(), grid, start, seeds.fold("steps"))
    assert (x < len(pieces)).all()
    written = texts(x, pieces, end)
    assert all(holds(text) for text in written)
    assert all(automaton.accepts(text) for text in written)
    assert len(set(written)) > n // 10  # and not one text again and again


def test_any_part_of_a_draw_leaves_a_completion() -> None:
    pieces, end, window, n = WORDS, 0, 24, 60
    automaton = containing("the", "cat") & avoiding("dog") & length(8, 30)
    network, lifted = Untrained(Masked(len(pieces), LinearSurvival()), window), lift(automaton, pieces, end)
    x_t = torch.full((n, window), len(pieces))
    for i in range(6):
        q = network(x_t, torch.ones(n))
        drawn = Accepted(q, x_t, lifted).sample(Seeds.of(i, n))
        assert all(automaton.accepts(text) for text in texts(drawn, pieces, end))
        assert (drawn[x_t < len(pieces)] == x_t[x_t < len(pieces)]).all()
        # Reveal what a confident sampler never would: the least likely of the draw's tokens.
        likely = q.mean.gather(-1, drawn[..., None])[..., 0] + 2.0 * (x_t < len(pieces))
        worst = likely.argsort(-1)[:, :4]
        x_t = x_t.scatter(1, worst, drawn.gather(1, worst))
    assert torch.isfinite(Accepted(q, x_t, lifted).log_acceptance).all()


def test_what_is_written_beforehand_stays() -> None:
    automaton = starting("ab") & containing("zz")
    denoiser = Constrained(Untrained(Masked(97, LinearSurvival()), 12), lift(automaton, ASCII, 96))
    start = torch.full((20, 12), 97)
    start[:, 11] = ASCII.index(b"q")
    x = sample(denoiser, Ancestral(), torch.linspace(1, 0, 4), start, Seeds.of(0, 20))
    assert all(t.startswith("ab") and "zz" in t and t.endswith("q") for t in texts(x, ASCII, 96))


def test_guidance_inside_is_what_is_constrained() -> None:
    network = Untrained(Masked(97, LinearSurvival()), 8)
    lifted = lift(matching("[a-f]{8}"), ASCII, 96)
    t, x_t, cond = torch.ones(2, dtype=torch.float64), torch.full((2, 8), 97), {"c": torch.tensor([1, 2])}
    guided = ClassifierFree(network, 3.0, {"c": 0})
    got = Constrained(guided, lifted).along((t,), x_t)(x_t, t, **cond)
    # This constraint acts on each position alone: the marginals are the guided ones, without the rest.
    allowed = torch.tensor([97 <= c < 103 for c in (10, *range(32, 127))] + [False])
    wanted = guided(x_t, t, **cond).logits.masked_fill(~allowed, -torch.inf).softmax(-1)
    torch.testing.assert_close(got.mean, wanted)


def test_what_a_network_works_out_ahead_is_used() -> None:
    class Ahead(Untrained):
        def along(self, times: tuple[Time, ...], like: Tensor) -> Denoiser:
            return Untrained(self.process, like.shape[1], seed=len(times))

    lifted, x_t = lift(matching("[a-f]{8}"), ASCII, 96), torch.full((2, 8), 97)
    t = torch.ones(2, dtype=torch.float64)
    process = Masked(97, LinearSurvival())
    got = Constrained(Ahead(process, 8), lifted).along((t, t, t), x_t)(x_t, t)
    wanted = Constrained(Untrained(process, 8, seed=3), lifted)(x_t, t)
    torch.testing.assert_close(got.mean, wanted.mean, rtol=0, atol=0)


def test_models_that_cannot_be_constrained_are_refused() -> None:
    lifted = lift(matching("a*"), ASCII, 96)
    network = Untrained(Masked(97, LinearSurvival()), 8)
    network.process = UniformNoise(97, LinearSurvival())
    with pytest.raises(UserError, match="masked tokens, and this one has UniformNoise"):
        Constrained(network, lifted)
    with pytest.raises(ValueError, match="97 tokens, the denoiser's vocabulary has 23"):
        Constrained(Untrained(Masked(23, LinearSurvival()), 8), lifted)

    class Mean(Untrained):
        def forward(self, x_t: Tensor, t: Time, **cond: Tensor) -> Point:
            return Point(x_t)

    with pytest.raises(TypeError, match="not a Point"):
        Constrained(Mean(Masked(97, LinearSurvival()), 8), lifted)(torch.full((1, 8), 97), torch.ones(1))
