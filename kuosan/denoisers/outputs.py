"""What a network predicts: six rows of one 2×2 system.

Every output in use is a known combination of data and noise,

    F = a x + b ε,     x_t = α x + σ ε                                                         (1)

so the pair (F, x_t) determines (x, ε):

    x = (σ F - b x_t)/(σ a - α b),     ε = (a x_t - α F)/(σ a - α b)                            (2)

| output     | a             | b                | source                                        |
|------------|---------------|------------------|-----------------------------------------------|
| x          | 1             | 0                |                                               |
| eps        | 0             | 1                | Ho et al. 2020                                |
| v          | -σ            | α                | Salimans & Ho 2022                            |
| velocity   | α'            | σ'               | Lipman et al. 2022                            |
| score      | 0             | -1/σ             | Song et al. 2021                              |
| edm        | (1 - c_skip α)/c_out | -c_skip σ/c_out | Karras et al. 2022, for any (α, σ)      |

For EDM's F, with data of standard deviation σ_d and m² = α²σ_d² + σ²: c_skip = ασ_d²/m², c_out = σσ_d/m,
so that a = σ/(σ_d m) and b = -ασ_d/m. With σ_d = 1 and α² + σ² = 1 it is -v.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch

from kuosan.core.schedules import Level, Schedule
from kuosan.core.shapes import Time

Output = Literal["x", "eps", "v", "velocity", "score", "edm"]
OUTPUTS: tuple[Output, ...] = get_args(Output)


def row(output: Output, schedule: Schedule, level: Level, sigma_data: float = 1.0) -> tuple[Time, Time]:
    """(a, b) of eq. 1, each (b,). The score's row is multiplied by σ, see `data_terms`."""
    one, nil = torch.ones_like(level.alpha), torch.zeros_like(level.alpha)
    match output:
        case "x":
            return one, nil
        case "eps":
            return nil, one
        case "v":
            return -level.sigma, level.alpha
        case "velocity":
            return schedule.rates(level.t)
        case "score":
            return nil, -1 / level.sigma
        case "edm":
            m = ((level.alpha * sigma_data).square() + level.sigma.square()).sqrt()
            return level.sigma / (sigma_data * m), -level.alpha * sigma_data / m
    raise ValueError(f"there is no output {output!r}: choose one of {', '.join(OUTPUTS)}")


def data_terms(
    output: Output, schedule: Schedule, level: Level, sigma_data: float = 1.0
) -> tuple[Time, Time]:
    """(f, g) with x = f F + g x_t, eq. 2."""
    if output == "score":  # x = (x_t + σ² F)/α, finite at σ = 0
        return level.sigma.square() / level.alpha, 1 / level.alpha
    a, b = row(output, schedule, level, sigma_data)
    determinant = level.sigma * a - level.alpha * b
    return level.sigma / determinant, -b / determinant


def weight_of_output(output: Output, schedule: Schedule, level: Level, sigma_data: float = 1.0) -> Time:
    """The squared error of F per squared error of x: ((σa - αb)/σ)²."""
    a, b = row(output, schedule, level, sigma_data)
    return ((level.sigma * a - level.alpha * b) / level.sigma).square()
