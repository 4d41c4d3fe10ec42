"""One trained run for all tests of recipes that only read it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import kuosan
from tests.recipes import small


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.pictures(tmp_path_factory.mktemp("data") / "ramps")


@pytest.fixture(scope="session")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> kuosan.Run:
    """Trained from Python in one call; to be read only."""
    out = tmp_path_factory.mktemp("runs") / "ramps"
    leaves = {name.replace(".", "__"): value for name, value in small.LEAVES.items()}
    return kuosan.train(data, out=out, budget=f"{small.STEPS}steps", **leaves)


@pytest.fixture
def copied(run: kuosan.Run, tmp_path: Path) -> Callable[[], kuosan.Run]:
    """A copy of that run to do things to."""
    return lambda: kuosan.load(shutil.copytree(run.path, tmp_path / "copy"))
