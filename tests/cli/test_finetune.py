"""`kuosan finetune` and `kuosan sample --adapter` as they are typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import call, tree_of, write_pictures

pytest.importorskip("peft", reason="the extra 'adapters' is not installed")


def test_finetune_and_what_comes_of_it(trained: Path, tmp_path: Path) -> None:
    new = write_pictures(tmp_path / "new" / "twilight")
    before = tree_of(trained)
    words = ("finetune", trained, new.parent, "--budget", "4steps", "--out", tmp_path / "run", "--json")
    first = call(*words, "--set", "training.batch=8", "training.validations=1")
    assert first.status == 0, first.err
    assert first.json["steps"] == 4 and first.json["drift"]["samples"]["n"] >= 8
    assert any(row["what"] == "adapter.rank" for row in first.json["choices"])
    assert tree_of(trained) == before, "the old run is never changed"
    out = tmp_path / "half"
    half = call("sample", trained, "--adapter", f"{tmp_path / 'run'}:0.5", "-n", 3, "--out", out, "--json")
    assert half.status == 0 and half.json["adapters"] == [f"{tmp_path / 'run'}:0.5"]
    assert len(list(out.glob("0000*.png"))) == 3
    wrong = call("sample", tmp_path / "run", "--adapter", tmp_path / "run", "-n", 3)
    assert wrong.status == 2 and "whose weights are others" in wrong.err.splitlines()[-1]
    assert tree_of(trained) == before
