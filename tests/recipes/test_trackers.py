"""Trackers: everyone is told the same, calls are those that the libraries take, nothing is sent unasked."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from kuosan.errors import UserError
from kuosan.recipes.session import _apart
from tests.recipes import small

Calls = list[tuple[str, Any]]


class FakeRun:
    """`wandb.Run` and `trackio.Run`: ``log`` takes data and a step, ``finish`` nothing."""

    def __init__(self, calls: Calls):
        self.calls = calls

    def log(self, data: dict[str, Any], step: int | None = None) -> None:
        self.calls.append(("log", (step, data)))

    def finish(self) -> None:
        self.calls.append(("finish", None))


def fake(name: str, calls: Calls) -> ModuleType:
    """The part of a library that is called, with its own names of arguments (wandb 0.31, trackio 0.43)."""
    module: Any = ModuleType(name)

    def wandb_init(
        *,
        project: str,
        name: str,
        dir: str,
        id: str,
        config: dict[str, Any],
        mode: str | None,
        resume: str | None,
    ) -> FakeRun:
        calls.append(("init", {"mode": mode, "resume": resume, "id": id, "config": config, "dir": dir}))
        return FakeRun(calls)

    def trackio_init(project: str, name: str, *, config: dict[str, Any], resume: str, embed: bool) -> FakeRun:
        assert resume in ("must", "allow", "never") and embed is False
        calls.append(("init", {"config": config, "name": name}))
        return FakeRun(calls)

    module.init = {"wandb": wandb_init, "trackio": trackio_init}[name]
    module.Image = lambda value, caption=None: SimpleNamespace(path=value)
    return module  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_who_is_asked_for_is_told(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    calls: Calls = []
    monkeypatch.setitem(sys.modules, name, fake(name, calls))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    session = small.session(data, tmp_path / "run", track=name, budget="6steps")
    for event in session.steps():
        last = event
    begun = calls[0][1]
    assert (
        calls[0][0] == "init" and calls[-1][0] == "finish" and len([c for c in calls if c[0] == "init"]) == 1
    )
    assert begun["config"]["training"]["batch"] == 8 and begun["config"]["network"]["dim"] == 32
    if name == "wandb":
        assert (
            begun["mode"] == "offline" and begun["resume"] is None and begun["dir"] == str(tmp_path / "run")
        )
    told = [what for kind, what in calls if kind == "log"]
    losses = {step: row["loss"] for step, row in told if "loss" in row}
    assert losses[last.step] == last.loss and len(losses) == 6
    assert any("val_loss" in row for _, row in told)
    pictures = [Path(row["samples"].path) for _, row in told if "samples" in row]
    assert pictures and all(p.is_file() for p in pictures)
    assert sorted(pictures) == sorted((tmp_path / "run" / "samples").glob("*.png"))
    assert list((tmp_path / "run" / "tensorboard").iterdir()), "TensorBoard always is"


def test_the_users_own_settings_decide(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Calls = []
    monkeypatch.setitem(sys.modules, "wandb", fake("wandb", calls))
    monkeypatch.setenv("WANDB_MODE", "online")
    ids = []
    for _ in range(2):  # cut off, and gone on with: the same run there
        session = small.session(data, tmp_path / "run", track="wandb", budget="6steps")
        next(session.steps())
        session.training.save()
        ids.append(calls[0][1]["id"])
        assert calls[0][1]["mode"] is None and calls[0][1]["resume"] == "allow"
        assert calls[-1][0] == "finish", "told also where it is cut off"
        calls.clear()
    assert ids[0] == ids[1]
    assert "track" in _apart(session.facts), "whoever is told, a checkpoint is the same"


def test_a_missing_package_says_what_to_install(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(
        UserError, match=r"needs the package wandb: install it with `pip install 'kuosan\[wandb\]'`"
    ):
        small.session(data, tmp_path / "run", track="wandb")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="wandb' or 'trackio"):
        small.session(data, tmp_path / "run", track="somebody")
