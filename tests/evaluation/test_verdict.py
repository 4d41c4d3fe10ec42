"""The verdict says what its numbers allow, and no more; every answer changes with the number that it rests on."""

from __future__ import annotations

from typing import Any

import pytest

from kuosan.evaluation.verdict import Finding, findings, worse
from tests.evaluation.test_report import metric

LIKE = ("fd_pixels", "kd_pixels", "swd_pixels", "fd_encoder", "kd_encoder", "precision", "density")


def about(question: str, metrics: dict[str, Any], **more: Any) -> Finding | None:
    return next((f for f in findings(metrics, **more) if f.about == question), None)


def same(**changes: Any) -> dict[str, Any]:
    """As good as its floor."""
    return metric(value=2.42, **changes)


def higher(value: float, floor: float, **changes: Any) -> dict[str, Any]:
    return metric(value=value, floor=floor, stderr=0.01, floor_stderr=0.01, better="higher", **changes)


def test_standard_errors_are_those_of_value_and_floor_together() -> None:
    assert worse(metric(value=3.0, floor=2.0, stderr=0.3, floor_stderr=0.4)) == pytest.approx(2.0)
    assert worse(
        metric(value=3.0, floor=2.0, stderr=0.3, floor_stderr=0.4, better="higher")
    ) == pytest.approx(-2)
    assert worse(metric(floor=None)) is None and worse(metric(value=float("nan"))) is None


def test_likeness_is_good_while_no_more_measures_see_a_difference_than_chance_makes() -> None:
    alike = {name: same() for name in LIKE}
    found = about("Likeness", alike)
    assert found is not None and found.tone == "good" and f"{len(LIKE)} measures" in found.says
    one = about("Likeness", alike | {"fd_pixels": metric(value=9.0)})
    assert one is not None and one.tone == "fair"
    assert "1 of 7 measures" in one.says and "Fréchet distance" in one.says and "9.00 ± 0.12" in one.says
    lucky = about("Likeness", alike | {"fd_pixels": metric(value=2.75)})  # 2.2 standard errors
    assert lucky is not None and lucky.tone == "good" and "chance" in lucky.says
    two = {"fd_pixels": metric(value=2.75), "kd_pixels": metric(value=2.75)}
    for others, tone in ((5, "fair"), (30, "good")):
        found = about("Likeness", two | {f"swd_{i}": same() for i in range(others)})
        assert found is not None and found.tone == tone, "as often as chance makes them, for so many measures"
    off = about("Likeness", {name: metric(value=9.0) for name in LIKE})
    assert off is not None and off.tone == "bad"
    none = about("Likeness", {"fd_pixels": metric(floor=None)})
    assert none is not None and none.tone == "unknown"


def test_the_clearest_difference_is_the_one_with_the_most_standard_errors() -> None:
    found = about(
        "Likeness", {"fd_pixels": metric(value=3.0), "kd_pixels": metric(value=5.0), "swd_pixels": same()}
    )
    assert found is not None and "kernel distance" in found.says and "Fréchet" not in found.says


@pytest.mark.parametrize(
    ("name", "value", "tone", "word"),
    [
        ("recall", 0.9, "good", "as varied"),
        ("recall", 0.5, "bad", "less varied"),
        ("recall", 0.99, "good", "as varied"),  # more of real items covered is no fault
        ("vendi", 0.5, "bad", "less varied"),
        ("vendi", 1.3, "fair", "more varied"),
        ("pairwise_within", 1.3, "fair", "noise"),
    ],
)
def test_variety_has_two_sides_where_both_are_faults(name: str, value: float, tone: str, word: str) -> None:
    found = about("Variety", {name: higher(value, 0.9)})
    assert found is not None and found.tone == tone and word in found.says


def test_what_was_not_measured_is_not_known() -> None:
    tones = {f.about: f.tone for f in findings({})}
    assert tones == {"Likeness": "unknown", "Variety": "unknown", "Copies": "unknown"}


def test_copies_are_named() -> None:
    honest = metric(value=0.012, floor=0.01, stderr=0.004, floor_stderr=0.003)
    found = about("Copies", {"copies": honest})
    assert found is not None and found.tone == "good" and "1.2 ± 0.4 %" in found.says
    found = about("Copies", {"copies": {**honest, "value": 0.2}})
    assert found is not None and found.tone == "bad" and found.says.startswith("It copies")
    near = higher(0.5, 0.9)
    found = about("Copies", {"copies": honest, "nearest_distance": near})
    assert found is not None and found.tone == "fair"
    far = higher(1.5, 0.9)
    found = about("Copies", {"copies": honest, "nearest_distance": far})
    assert found is not None and found.tone == "good"


def test_conditions_are_held_against_what_real_items_reach() -> None:
    assert about("Conditions", {"fd_pixels": same()}) is None
    found = about("Conditions", {"class_accuracy": higher(0.95, 0.96)})
    assert found is not None and found.tone == "good" and "95.0 ± 1.0 %" in found.says
    found = about("Conditions", {"class_accuracy": higher(0.3, 0.96)})
    assert found is not None and found.tone == "bad"
    often = metric(value=0.3, floor=0.05, stderr=0.02, floor_stderr=0.02)
    found = about("Conditions", {"class_accuracy": higher(0.95, 0.96), "class_frequency": often})
    assert found is not None and found.tone == "fair" and "not as often" in found.says


def test_what_is_known_by_heart_is_a_gap_beyond_its_error() -> None:
    bound, train = metric(value=1.5, stderr=0.01), metric(value=1.49, stderr=0.01)
    found = about("Memory", {"bits_bound": bound, "bits_train": train})
    assert found is not None and found.tone == "good"
    found = about("Memory", {"bits_bound": bound, "bits_train": {**train, "value": 1.45}})
    assert found is not None and found.tone == "fair" and "0.050 ± 0.014 bits per dimension" in found.says
    found = about(
        "Memory", {"bits_per_character": bound, "bits_per_character_train": {**train, "value": 1.0}}
    )
    assert found is not None and found.tone == "bad" and "bits per character" in found.says
    gap = {"value": 0.2, "stderr": 0.05, "held_out": 3.0, "n": 40}
    found = about("Memory", {}, levels={"gap": gap})
    assert found is not None and found.tone == "fair"
    assert about("Memory", {}) is None


def rows(*changes: float) -> list[dict[str, Any]]:
    loss, out = 1.0, [{"step": 10, "val_loss": 1.0}]
    for i, change in enumerate(changes):
        out.append(
            {"step": 20 + 10 * i, "val_loss": loss + change, "val_change": change, "val_change_stderr": 0.01}
        )
        loss = min(loss, loss + change)
    return out


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ((-0.3, -0.2, -0.1, -0.1), "still fell"),
        ((-0.3, -0.2, -0.1, -0.005, 0.004, -0.001, 0.002, 0.001), "long enough"),
        ((-0.3, -0.2, 0.1, 0.2, 0.3), "has risen since step 30"),
    ],
)
def test_training_was_too_short_long_enough_or_too_long(changes: tuple[float, ...], word: str) -> None:
    found = about("Training", {}, log=rows(*changes))
    assert found is not None and word in found.says
    assert about("Training", {}, log=rows(-0.1, -0.1)) is None, "two looks tell nothing"


def begun(*more: float) -> dict[str, Any]:
    times = [(i + 1) / len(more) for i in range(len(more))]
    rows = [
        {"begun": t, "value": 1 + m, "more": m, "more_stderr": 0.1} for t, m in zip(times, more, strict=True)
    ]
    return {"begun": rows, "floor": 1.0}


def test_it_is_weakest_where_most_of_the_distance_comes_about() -> None:
    found = about("Noise", {}, levels=begun(0.0, 0.1, 0.1, 3.0, 4.0))
    assert found is not None and found.tone == "fair"
    assert "between t = 0.6 and t = 0.8" in found.says and "72%" in found.says
    found = about("Noise", {}, levels=begun(2.0, 2.1, 2.1, 2.2, 2.2))
    assert found is not None and "between t = 0 and t = 0.2" in found.says
    found = about("Noise", {}, levels=begun(0.0, 0.1, 0.1, 0.15, 0.1))
    assert found is not None and found.tone == "good"
