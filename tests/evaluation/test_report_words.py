"""Laws of the drawings and of the sentences in a report: they say only what the numbers allow."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuosan.evaluation import plots, training_plots
from kuosan.evaluation.report_words import count, duration, number, verdict
from tests.evaluation.test_report import metric

pytestmark = pytest.mark.usefixtures("every_chart")


def test_the_loss_curve_is_drawn_where_the_numbers_are() -> None:
    """Read back from the drawing: the held-out curve's heights are linear in the logarithm of the losses."""
    losses = [1.0, 0.3, 0.05]
    svg = training_plots.loss_chart([{"step": i * 10, "val_loss": loss} for i, loss in enumerate(losses)])
    assert svg is not None
    drawn = [
        re.findall(r"(-?[\d.]+) (-?[\d.]+)", d)
        for d in re.findall(r'<path d="(M[^"]+)"[^>]*var\(--c2\)', svg)
    ]
    xs, ys = np.array(next(points for points in drawn if len(points) == 3), dtype=float).T
    assert np.allclose(np.diff(xs), np.diff(xs)[0], rtol=1e-4)
    assert np.allclose(
        np.diff(ys) / -np.diff(np.log(losses)), np.diff(ys)[0] / -np.diff(np.log(losses))[0], rtol=1e-4
    )
    assert (np.diff(ys) > 0).all()  # SVG grows downwards: a falling loss falls


@given(value=st.floats(-5, 50), floor=st.floats(-5, 50), higher=st.booleans())
def test_the_floor_drawing_keeps_proportions(value: float, floor: float, higher: bool) -> None:
    row = metric(
        value=value, floor=floor, stderr=0.5, floor_stderr=0.25, better="higher" if higher else "lower"
    )
    svg = plots.floor_drawing(row)
    assert svg is not None
    dot = float(re.findall(r'cx="([-\d.]+)"', svg)[0])
    line = float(re.findall(r'class="real" d="M([-\d.]+)', svg)[0])
    left, right = map(float, re.findall(r'class="whisker" d="M([-\d.]+) 15H([-\d.]+)"', svg)[0])
    unit = (right - left) / 2  # four standard errors of 0.5 make two units
    assert 7.9 <= left <= dot <= right <= 232.1
    assert abs((dot - line) - unit * (value - floor)) <= 0.06 * abs(value - floor) + 0.2


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"value": 2.5}, "as close as real pictures are to each other"),
        ({"value": 2.7}, "as close as real pictures are to each other"),  # 1.9 standard errors
        ({"value": 2.73}, "1.1× the floor"),  # 2.1 standard errors
        ({}, "1.4× the floor"),
        ({"value": 242.0}, "100× the floor"),
        ({"value": 1.0}, "closer than real pictures are to each other: look for copies below"),
        (
            {"value": 5e-3, "stderr": 1e-3, "floor": 1e-5, "floor_stderr": 1e-4},
            "above the floor by 5 standard errors",
        ),
        ({"better": "higher", "value": 0.9, "floor": 0.91}, "as good as real pictures"),
        ({"better": "higher", "value": 0.5, "floor": 1.0}, "50% of what real pictures reach"),
        ({"better": "higher"}, "above what real pictures reach: samples are more typical than life"),
        ({"floor": None}, ""),
        ({"value": float("nan")}, ""),
        (
            {"value": 2.42, "stderr": None, "floor_stderr": None},
            "as close as real pictures are to each other",
        ),
        ({"value": 2.662, "stderr": None, "floor_stderr": None}, "1.1× the floor"),
    ],
)
def test_verdicts_say_what_the_errors_allow(changes: dict[str, Any], sentence: str) -> None:
    assert verdict(metric(**changes), "pictures", "fd") == sentence


def test_verdicts_about_copies_speak_of_copies() -> None:
    row = metric(value=0.08, stderr=0.01, floor=0.01, floor_stderr=0.005)
    assert verdict(row, "songs", "copies") == "above the floor by 6 standard errors"
    assert verdict({**row, "value": 0.012}, "songs", "copies") == "no more than among held-out real songs"
    assert (
        verdict({**row, "value": 0.0, "floor": 0.2}, "songs", "copies")
        == "fewer than among held-out real songs"
    )
    assert verdict(metric(value=1.0), "songs", "crossings_per_bar") == "less than in real songs"
    near = "50% of the usual: nearer to the training data than held-out real songs"
    assert verdict(metric(value=1.21, better="higher"), "songs", "nearest_distance") == near


@given(value=st.floats(1e-9, 1e9), relative=st.floats(1e-4, 0.5), sign=st.sampled_from([1, -1]))
def test_a_number_is_read_back_within_a_tenth_of_its_error(value: float, relative: float, sign: int) -> None:
    stderr = value * relative
    text = number(sign * value, stderr).replace(",", "").replace("−", "-")
    mantissa, _, power = text.partition("×10")
    exponent = int(power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))) if power else 0
    assert abs(float(mantissa) * 10**exponent - sign * value) <= 0.1 * stderr


def test_numbers_for_people() -> None:
    assert [number(x) for x in (0.0, 3.41, 1437.0, 0.12345678)] == ["0", "3.410", "1,437", "0.1235"]
    assert [number(3.41, 0.12), number(-2.4e-4, 1.9e-4), number(float("inf"))] == ["3.41", "−2.4×10⁻⁴", "∞"]
    assert [duration(x) for x in (4.25, 59.7, 183.2, 7260)] == [
        "4.2 s",
        "1 min 0 s",
        "3 min 3 s",
        "2 h 1 min",
    ]
    assert count(1437) == "1,437"


def test_the_distance_while_training_is_drawn_beside_its_floor() -> None:
    """Read back from the drawing: heights are linear in the distances, and the floor is where its number is."""
    values, floor = [4.0, 3.0, 2.0], 1.0
    errors = {"sample_fd_stderr": 0.1, "sample_fd_floor": floor, "sample_fd_floor_stderr": 0.1}
    rows = [{"step": 10 * i, "sample_fd": v, **errors} for i, v in enumerate(values)]
    svg = training_plots.distance_chart(rows)
    assert svg is not None

    def heights(colour: str) -> list[float]:
        paths = re.findall(rf'<path d="(M[^"]+)"[^>]*var\(--{colour}\)', svg)
        points = [re.findall(r"(-?[\d.]+) (-?[\d.]+)", d) for d in paths]
        return [float(y) for _, y in next(p for p in points if len(p) == 3)]

    mine, real = heights("c1"), heights("c2")
    unit = mine[1] - mine[0]  # SVG grows downwards: one less is so much lower
    assert unit > 0 and mine[2] - mine[1] == pytest.approx(unit, rel=1e-3)
    assert real == pytest.approx([mine[2] + unit] * 3, rel=1e-3)
    assert training_plots.distance_chart([{"step": 1, "loss": 1.0}]) is None


def test_what_has_two_sides_without_being_variety() -> None:
    row = metric(value=27.8, floor=13.8, better="higher")
    assert verdict(row, "passages", "notes_per_bar") == "more than in real passages"
    assert verdict({**row, "value": 5.0}, "passages", "notes_per_bar") == "less than in real passages"
