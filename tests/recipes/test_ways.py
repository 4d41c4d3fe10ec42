"""The way a run is trained: asked for, kept from before, or measured; never measured where bits must be the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kuosan.errors import UserError
from kuosan.recipes import machine, opening, ways
from kuosan.recipes.calibrate import Speed
from kuosan.recipes.opening import reopen
from kuosan.recipes.report import command
from kuosan.recipes.schema import TrainingPart
from kuosan.recipes.ways import COMPILE_FROM, Task, settle_way, stir
from kuosan.training.speed import Trial, Way
from tests.recipes import small
from tests.training.test_speed import convolving

CPU = torch.device("cpu")
LONG = COMPILE_FROM["cpu"]  # read before `conftest` turns compiling off


class Clock:
    """In place of `measure`: a pass of each way takes as long as it says here; asked ways are written down."""

    def __init__(self, **seconds: float):
        self.seconds, self.asked = seconds, []  # type: dict[str, float], list[list[Way]]

    def __call__(
        self, denoiser: Any, loss: Any, tried: list[Way], device: Any, *, seconds: float
    ) -> list[Trial]:
        self.asked.append(list(tried))
        return [Trial(w, self.of(w), 0.0 if w == Way() else 0.001) for w in tried]

    def of(self, way: Way) -> float:
        words = (way.precision, way.layout, "compiled" if way.compile else "eager")
        out = 1.0
        for word in words:
            out *= self.seconds.get(word, 1.0)
        return out


def task(about: str = "a network") -> Task:
    model = convolving()
    return Task(model, lambda items: next(model.parameters()).sum(), [about], 8)


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Clock]:
    """Starts one, with a cache of its own and units for bfloat16."""
    monkeypatch.setenv("KUOSAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(machine, "has_bfloat16", lambda device: True)
    monkeypatch.setitem(COMPILE_FROM, "cpu", LONG)

    def start(**seconds: float) -> Clock:
        one = Clock(**seconds)
        monkeypatch.setattr(ways, "measure", one)
        monkeypatch.setattr(ways, "compiled", lambda model, once: "")
        monkeypatch.setattr(ways, "cannot_compile", lambda network, device: "")
        return one

    return start


def settled(seconds: float | None, about: str = "a network", **asked: Any) -> tuple[Way, dict[str, str]]:
    part, choices = settle_way(TrainingPart(**asked), task(about), CPU, seconds)
    assert [c[0] for c in choices] == ["training.precision", "training.layout", "training.compile"]
    assert [c[1] for c in choices] == [part.precision, part.layout, part.compile]
    way = Way(part.precision, part.layout, part.compile)  # type: ignore[arg-type]
    return way, {name.removeprefix("training."): why for name, _, why in choices}


def test_a_budget_of_steps_measures_nothing_and_does_as_it_is_told(clock: Callable[..., Clock]) -> None:
    one = clock(bfloat16=0.1)
    assert settled(None)[0] == Way()
    assert settled(None, precision="bfloat16", compile=True)[0] == Way("bfloat16", compile=True)
    assert one.asked == []


def test_the_fastest_is_taken_kept_and_not_measured_again(clock: Callable[..., Clock]) -> None:
    one = clock(bfloat16=0.5, channels_last=0.8)
    best = Way("bfloat16", "channels_last")
    way, why = settled(60.0)
    assert way == best and len(one.asked) == 1 and len(one.asked[0]) == 4
    assert "2.50 times" in why["precision"] and "1.0e-03" in why["layout"]
    other = clock(bfloat16=9.0, channels_last=9.0)
    way, why = settled(60.0)
    assert way == best and other.asked == [] and "before" in why["precision"]
    assert settled(60.0, "another network")[0] == Way() and len(other.asked) == 1


def test_what_was_kept_holds_for_its_threads_alone(
    clock: Callable[..., Clock], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = clock()
    settled(60.0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    settled(60.0)
    assert len(one.asked) == 2


@pytest.mark.parametrize(
    "damage", [b"", b"[]", b"[{", b'{"way": 3}', b'[{"way": {"precision": 1}}]', b"\xff\xfe"]
)
def test_a_damaged_note_is_measured_anew_and_replaced(
    clock: Callable[..., Clock], tmp_path: Path, damage: bytes
) -> None:
    clock(bfloat16=0.5)
    settled(60.0)
    (note,) = (tmp_path / "cache" / "speed").iterdir()
    whole = note.read_bytes()
    note.write_bytes(damage)
    again = clock(bfloat16=0.5)
    assert settled(60.0)[0] == Way("bfloat16") and len(again.asked) == 1
    assert note.read_bytes() == whole


def test_a_folder_that_cannot_be_written_costs_a_measurement_and_nothing_else(
    clock: Callable[..., Clock], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("KUOSAN_CACHE", str(tmp_path / "file"))
    one = clock(bfloat16=0.5)
    for _ in range(2):
        assert settled(60.0)[0] == Way("bfloat16")
    assert len(one.asked) == 2


def test_what_is_asked_for_is_not_tried_otherwise(clock: Callable[..., Clock]) -> None:
    one = clock(bfloat16=0.5, channels_last=0.5)
    way, why = settled(60.0, precision="float32")
    assert way == Way(layout="channels_last") and why["precision"] == "asked for"
    assert {w.precision for w in one.asked[0]} == {"float32"}
    assert settled(60.0, layout="contiguous", precision="bfloat16")[0] == Way("bfloat16")
    assert len(one.asked) == 1  # there was nothing left to choose
    with pytest.raises(UserError, match="tf32"):
        settled(60.0, precision="tf32")


def test_compiling_is_tried_where_it_can_pay(
    clock: Callable[..., Clock], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(bfloat16=0.5, compiled=0.8)
    way, why = settled(LONG / 2)
    assert way == Way("bfloat16") and "15 min" in why["compile"]
    one = clock(bfloat16=0.5, compiled=0.8)
    way, why = settled(LONG)
    assert way == Way("bfloat16", compile=True) and "2.50 times" in why["compile"]
    assert one.asked[1] == [
        Way("bfloat16"),
        Way("bfloat16", compile=True),
    ]  # of the best alone, as it is dear
    clock(bfloat16=0.5, compiled=0.99)
    assert settled(LONG, "a network that gains nothing")[0] == Way("bfloat16")
    clock(bfloat16=0.5, compiled=0.1)
    monkeypatch.setattr(ways, "compiled", lambda model, once: "no")
    assert settled(LONG, "a network that cannot be compiled")[0] == Way("bfloat16")
    assert settled(LONG, "a network that must not", compile=False)[0] == Way("bfloat16")
    monkeypatch.setattr(ways, "cannot_compile", lambda network, device: "there is no compiler")
    way, why = settled(LONG, "a machine without a compiler")
    assert way == Way("bfloat16") and why["compile"] == "there is no compiler"


def test_stirred_weights_let_a_gradient_through_everywhere() -> None:
    from kuosan.core.schedules import Cosine
    from kuosan.denoisers.network import NetworkDenoiser
    from kuosan.networks import build_network
    from kuosan.processes.gaussian import GaussianProcess

    spec = {
        "kind": "transformer",
        "channels": 1,
        "sides": [4, 4],
        "patch": 2,
        "dim": 8,
        "depth": 1,
        "heads": 1,
    }
    model = NetworkDenoiser(GaussianProcess(Cosine()), build_network(spec, torch.Generator().manual_seed(0)))
    stir(model)
    t = torch.full((2,), 0.5, dtype=torch.float64)
    model(torch.ones(2, 1, 4, 4), t).mean.square().sum().backward()
    assert all(bool(p.grad.abs().sum() > 0) for p in model.parameters() if p.numel() and p.grad is not None)
    assert sum(p.grad is not None for p in model.parameters()) > 10


def test_a_runs_way_stands_in_its_recipe_and_is_not_asked_for_again(
    data: Path, tmp_path: Path, clock: Callable[..., Clock], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = clock(bfloat16=0.5)
    # What is said here is how long a budget is for the choice; the run itself has its few steps.
    settle = ways.settle_way
    monkeypatch.setattr(
        opening, "settle_way", lambda part, task, device, seconds: settle(part, task, device, 60.0)
    )
    begun = small.session(data, tmp_path / "run")
    assert len(one.asked) == 1
    part = begun.facts.recipe.training
    assert (part.precision, part.layout, part.compile) == ("bfloat16", "contiguous", False)
    assert begun.training.settings.precision == "bfloat16"
    assert any(name == "training.precision" and "2.00 times" in why for name, _, why in begun.facts.choices)
    for event in begun.steps():
        if event.step == 3:
            break
    monkeypatch.setattr(opening, "settle_way", lambda *_: pytest.fail("it was decided"))
    again = reopen(tmp_path / "run")
    assert again.facts.recipe.training == part


def test_a_real_measurement_of_a_real_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUOSAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(machine, "has_bfloat16", lambda device: True)
    settle = ways.settle_way
    monkeypatch.setattr(
        opening, "settle_way", lambda part, task, device, seconds: settle(part, task, device, 1.0)
    )
    begun = small.session(data, tmp_path / "run")
    words = {name: why for name, _, why in begun.facts.choices}
    assert (
        "measured" in words["training.precision"] and len(list((tmp_path / "cache" / "speed").iterdir())) == 1
    )
    assert begun.facts.recipe.training.precision in ("float32", "bfloat16")


def test_the_command_that_repeats_a_run_of_minutes_names_its_way(
    data: Path, tmp_path: Path, clock: Callable[..., Clock], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(bfloat16=0.5)
    monkeypatch.setattr(opening, "calibrate", lambda *_: Speed(1, 1.0))
    measured = command(small.session(data, tmp_path / "minutes", budget="1m"))
    assert "training.precision=bfloat16" in measured and "training.layout" not in measured
    assert "training.precision" not in command(small.session(data, tmp_path / "steps"))
