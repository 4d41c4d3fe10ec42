"""A comparison from data to page, on a few steps; that what is finished is not trained again; and bad input."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kuosan.errors import UserError
from kuosan.evaluation.frechet import FrechetDistance
from kuosan.evaluation.paired import paired_difference
from kuosan.evaluation.versus import Estimated
from kuosan.recipes import contest_measure
from kuosan.recipes.compare import answer, compare
from kuosan.recipes.contest import Contest
from kuosan.recipes.mixture import GRID, SIDE, WIDTH, found_modes, modes, pictures
from tests.recipes import small

LEAVES: dict[str, Any] = {**small.LEAVES, "training.validations": 1}


def labelled(path: Path, n: int, classes: int = 2) -> Path:
    rng = np.random.Generator(np.random.Philox(key=3))
    y = np.arange(n) % classes
    x = np.clip(100 * rng.random((n, 8, 8)) + 100 * y[:, None, None], 0, 255).astype(np.uint8)
    np.savez(path, images=x, labels=y)
    return path


def test_two_arms_are_compared_and_none_is_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contest_measure, "SECONDS", 0.5)
    data, trained = tmp_path / "squares", []  # few enough that no encoder is worth its name
    for side, n in (("train", 90), ("val", 20)):
        (data / side).mkdir(parents=True)
        labelled(data / side / "squares.npz", n, 2 + (side == "val"))  # a class that nothing is taught of

    def work(arm: Any) -> None:
        trained.append(str(arm))
        for _ in arm.steps():
            pass
        arm.measure()

    asked: dict[str, Any] = {
        "out": tmp_path / "out",
        "budget": "4steps",
        "seeds": 1,
        "n": 32,
        "modes": False,
        "train": work,
    }
    found = compare(data, **asked, methods=("gan",), **LEAVES)
    assert trained == ["diffusion, seed 0", "gan, seed 0"]
    sizes = [m["parameters"] for m in found["methods"].values()]
    assert max(sizes) / min(sizes) < 1.1
    assert all(m["steps"] == 4 for m in found["methods"].values())
    page = (tmp_path / "out" / "compare.html").read_text(encoding="utf-8")
    assert all(a["sentence"].split(":")[0] in page for a in found["answers"].values())
    assert (
        json.loads((tmp_path / "out" / "compare.json").read_text(encoding="utf-8"))["answers"]
        == found["answers"]
    )
    first = Contest(data, tmp_path / "out", "4steps", 1, 32, ("gan",), LEAVES).arm("diffusion", 0)
    bits = found["methods"]["diffusion"]["metrics"]["bits_bound"]["value"]
    assert first.batch == LEAVES["training.batch"]  # asked before a step is taken
    file = first.folder / "evaluation.json"
    tree = json.loads(file.read_text(encoding="utf-8"))
    tree["metrics"] = {k: m for k, m in tree["metrics"].items() if not k.startswith("bits")}
    file.write_text(json.dumps(tree), encoding="utf-8")  # as of a budget that left no time for it
    assert first.surprise()["bits_bound"]["value"] == pytest.approx(bits, rel=0.05)
    again = compare(data, **asked, methods=("gan",), **LEAVES)
    assert len(trained) == 2 and again["methods"] == found["methods"]


def test_data_that_cannot_be_compared_on_are_refused_in_a_sentence(tmp_path: Path) -> None:
    few = labelled(tmp_path / "few.npz", 40)
    with pytest.raises(UserError, match="a comparison needs 64 and 10"):
        compare(few, out=tmp_path / "a", budget="4steps", **LEAVES)
    with pytest.raises(UserError, match="no method 'wgan'"):
        compare(few, out=tmp_path / "b", budget="4steps", methods=("wgan",), **LEAVES)
    with pytest.raises(UserError, match="autoregressive does not fit"):
        compare(
            labelled(tmp_path / "ok.npz", 400),
            out=tmp_path / "c",
            budget="4steps",
            methods=("autoregressive",),
            **LEAVES,
        )


def test_modes_of_small_pictures_are_counted() -> None:
    m, x = modes(), pictures(5000)
    assert m.shape == (GRID**2, SIDE, SIDE) and torch.equal(
        m[7], m[11].T
    )  # second row, third place; and turned
    assert torch.allclose(m.flip(1, 2), m.flip(0))  # the grid lies in the middle
    which = torch.cdist(x.flatten(1), m.flatten(1)).argmin(1)
    assert float((x - m[which]).std()) == pytest.approx(WIDTH, rel=0.01)
    found = found_modes(x)
    assert found["modes"] == 25 and found["on_mode"] == 1 and sum(found["counts"]) == 5000
    assert min(found["counts"]) > 130  # fair: 200 ± 14
    assert found_modes(x[which >= 5])["modes"] == 20  # five modes dropped
    rare = torch.cat([x[which > 0], x[which == 0][:40]])
    assert found_modes(rare)["modes"] == 24
    between = (m[:-1] + m[1:]) / 2 + (x - m[which])[:24]  # a mean of two modes is on none
    assert found_modes(between)["on_mode"] == found_modes(torch.zeros(9, SIDE, SIDE))["on_mode"] == 0


def runs(values: list[float], better: str = "lower") -> list[dict[str, Any]]:
    return [
        {"metrics": {"fd": {"value": v, "stderr": 0.1, "better": better}}, "seconds_per_sample": 1.0}
        for v in values
    ]


def test_only_what_can_be_told_apart_is_called_worse() -> None:
    by = {"diffusion": runs([1.0, 1.1, 0.9]), "vae": runs([5.0, 5.2, 4.8]), "gan": runs([1.1, 0.8, 1.3])}
    found = answer("likeness", ("fd",), by)
    assert (
        found is not None
        and found.best == "diffusion"
        and found.tied == ("gan",)
        and set(found.behind) == {"vae"}
    )
    assert "cannot be told apart" in found.sentence() and "the VAE" in found.sentence()
    other = answer(
        "likeness",
        ("fd",),
        {
            m: [dict(r, metrics={"fd": r["metrics"]["fd"] | {"better": "higher"}}) for r in rs]
            for m, rs in by.items()
        },
    )
    assert other is not None and other.best == "vae" and not other.tied
    assert answer("likelihood", ("bits_bound",), by) is None
    assert isinstance(found.values["vae"], Estimated)
    # An interval in the digits of its error; without one, a number.
    assert re.search(r"is behind by 3\.\d{1,2} to 4\.\d{1,2}\.$", found.sentence())
    timed = {m: [{"seconds_per_sample": s, "metrics": {}}] for m, s in (("diffusion", 0.5), ("vae", 0.125))}
    speed = answer("speed", ("seconds_per_sample",), timed)
    assert speed is not None and speed.sentence().endswith("diffusion (0.5000) is behind by 0.3750.")


def test_the_pairing_takes_out_what_both_share() -> None:
    """The same samples are no different, without error; moved ones are told apart with a smaller error than sets that
    share nothing have."""
    generator, metric = torch.Generator().manual_seed(0), FrechetDistance()
    x, real = (torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (240, 300))
    same = paired_difference(metric, x, x, real)
    assert same.value == 0 and same.stderr == 0 and not same.told
    moved = paired_difference(metric, x + 0.5, x + 0.4, real)
    apart = sum((metric.estimate(x + by, real).stderr or 0) ** 2 for by in (0.5, 0.4)) ** 0.5
    assert moved.told and moved.value > 0 and moved.stderr < apart / 2
