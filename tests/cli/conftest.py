"""The command line in this process: quick, and with the same streams and statuses as the real one."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kuosan.cli import main

TINY = [
    "--budget", "12steps", "--set", "training.batch=16", "network.dim=32", "network.depth=1",
    "network.patch=4", "training.validations=2",
]  # fmt: skip
ITEMS = 60  # too few for an encoder of their own, so that measuring takes a moment


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout; fails where there is anything else."""
        tree = json.loads(self.out)
        assert isinstance(tree, dict)
        return tree


def call(*words: object) -> Result:
    """Run a command line here."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(w) for w in words])
    return Result(status, out.getvalue(), err.getvalue())


@pytest.fixture
def kuosan() -> Callable[..., Result]:
    return call


def write_pictures(folder: Path, count: int = ITEMS, seed: int = 0) -> Path:
    """Grey 8×8 pictures: a bright square on dark ("day") or a dark one on bright ("night")."""
    generator = np.random.default_rng(seed)
    for i in range(count):
        name = ("day", "night")[i % 2]
        pixels = generator.integers(0, 40, (8, 8), dtype=np.uint8)
        x, y = generator.integers(0, 5, 2)
        pixels[y : y + 3, x : x + 3] += 200
        if name == "night":
            pixels = 255 - pixels
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name / f"{i:03d}.png")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _few_samples() -> Iterator[None]:
    """Every training here is measured on few samples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kuosan.recipes.finish.MOST", 64)
        yield


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures in two classes. Not to be changed."""
    return write_pictures(tmp_path_factory.mktemp("data") / "squares")


@pytest.fixture(scope="session")
def first_answer(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """What the very first training of a run answered."""
    out = tmp_path_factory.mktemp("runs") / "squares"
    result = call("train", pictures, "--out", out, *TINY, "--json")
    assert result.status == 0, result.err
    return result


@pytest.fixture(scope="session")
def trained(first_answer: Result) -> Path:
    """A finished run. Not to be changed: copy it first."""
    return Path(first_answer.json["run"])


def tree_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
