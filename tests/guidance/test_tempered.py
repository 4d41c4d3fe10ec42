"""Laws of temperature and nucleus: powers of the probabilities, and the smallest set with enough of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kuosan.core.curves import Piecewise, survival
from kuosan.core.posteriors import Categorical
from kuosan.core.shapes import as_time
from kuosan.denoisers.base import Denoiser
from kuosan.guidance import Tempered
from kuosan.processes.discrete import Masked

P = torch.tensor([[0.5, 0.25, 0.15, 0.1], [0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)


class Fixed(Denoiser):
    """Says the same of every state."""

    def __init__(self) -> None:
        super().__init__()
        self.process = Masked(4, survival("linear"))

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Categorical:
        return Categorical(P.log().expand(len(x_t), -1, -1) + 3.0)  # logits are not normalised


def said(denoiser: Denoiser, t: float | Tensor = 0.5, n: int = 1) -> Tensor:
    return denoiser(torch.full((n, 2), 4), as_time(t, n)).mean


@pytest.mark.parametrize("temperature", [0.5, 0.8, 2.0])
def test_probabilities_are_raised_to_a_power(temperature: float) -> None:
    expected = P ** (1 / temperature)
    torch.testing.assert_close(
        said(Tempered(Fixed(), temperature))[0], expected / expected.sum(1, keepdim=True)
    )


def test_temperature_one_with_everything_is_the_model_to_the_bit() -> None:
    assert torch.equal(said(Tempered(Fixed(), 1.0)), said(Fixed()))


@pytest.mark.parametrize(
    ("p", "kept"), [(0.39, (1, 1)), (0.49, (1, 2)), (0.69, (2, 2)), (0.74, (2, 3)), (0.95, (4, 4))]
)
def test_a_nucleus_is_the_smallest_set_with_enough(p: float, kept: tuple[int, int]) -> None:
    q = said(Tempered(Fixed(), 1.0, p))[0]
    for row, of, count in zip(q, P, kept, strict=True):
        likeliest = of.argsort(descending=True)
        assert float(of[likeliest[:count]].sum()) >= p - 1e-12 and float(of[likeliest[: count - 1]].sum()) < p
        torch.testing.assert_close(
            row[likeliest[:count]], of[likeliest[:count]] / of[likeliest[:count]].sum()
        )
        assert float(row[likeliest[count:]].abs().sum()) == 0


def test_a_curve_of_times_equals_a_loop() -> None:
    heat = Piecewise([(0.0, 0.5), (1.0, 1.5)])
    t = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    rows = said(Tempered(Fixed(), heat), t, 3)
    for row, one in zip(rows, t.tolist(), strict=True):
        torch.testing.assert_close(row, said(Tempered(Fixed(), 0.5 + one))[0])


def test_impossible_values_are_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        said(Tempered(Fixed(), 0.0))
    for p in (0.0, 1.5):
        with pytest.raises(ValueError, match="nucleus"):
            Tempered(Fixed(), 1.0, p)
