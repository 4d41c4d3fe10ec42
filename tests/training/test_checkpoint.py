"""Checkpoints under attack: killed at every moment, a full disk, flipped bytes, states not worth keeping."""

from __future__ import annotations

import errno
import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from kuosan.errors import UserError
from kuosan.training import checkpoint


class Killed(BaseException):
    """What no handler for errors may swallow."""


OLD = ({"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)}, {"step": 3, "events": ["é", None, 0.1]})
NEW = ({"w": torch.arange(6.0).reshape(2, 3) + 0.5, "n": torch.tensor(4)}, {"step": 4, "events": []})


def content(folder: Path) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    tensors, state = checkpoint.load(folder)
    return {k: v.tolist() for k, v in tensors.items()}, {k: v for k, v in state.items() if k != "tensors"}


def plain(
    saved: tuple[dict[str, torch.Tensor], dict[str, Any]],
) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    return {k: v.tolist() for k, v in saved[0].items()}, saved[1]


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@contextmanager
def failing(
    monkeypatch: pytest.MonkeyPatch, call: int, when: str, fail: Callable[[], None]
) -> Iterator[list[int]]:
    """Let the ``call``-th system call that writes fail, ``before`` it is done, ``after``, or ``torn`` half done."""
    made = [0]

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            made[0] += 1
            if made[0] != call:
                return real(*args, **kwargs)
            if (
                when == "torn"
                and real is fsync
                and os.fstat(args[0]).st_size > 20
                and not os.path.isdir(f"/proc/self/fd/{args[0]}")
            ):
                os.truncate(args[0], os.fstat(args[0]).st_size // 2)
            elif when == "after":
                real(*args, **kwargs)
            fail()

        return wrapped

    fsync = os.fsync
    with monkeypatch.context() as patch:
        for name in ("fsync", "replace"):
            patch.setattr(os, name, wrap(getattr(os, name)))
        patch.setattr(Path, "unlink", wrap(Path.unlink))
        yield made


def kill() -> None:
    raise Killed


def full() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, *OLD)
    assert content(tmp_path) == plain(OLD)
    tensors, _ = checkpoint.load(tmp_path)
    assert all(tensors[k].dtype == v.dtype for k, v in OLD[0].items())
    checkpoint.save(tmp_path, *NEW)
    assert content(tmp_path) == plain(NEW)
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize("when", ["before", "torn", "after"])
def test_killed_at_any_moment_the_old_or_the_new_checkpoint_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    found = []
    for call in range(1, 30):
        folder = tmp_path / str(call)
        checkpoint.save(folder, *OLD)
        with failing(monkeypatch, call, when, kill) as made:
            try:
                checkpoint.save(folder, *NEW)
            except Killed:
                pass
            else:
                assert made[0] < call  # it was never reached: all moments are through
                break
        found.append(content(folder))
        assert found[-1] in (plain(OLD), plain(NEW))
        checkpoint.save(folder, *NEW)  # and life goes on
        assert content(folder) == plain(NEW) and len(files(folder)) == 2
    assert len(found) >= 6
    assert found[0] == plain(OLD) and found[-1] == plain(NEW)
    assert found == sorted(found, key=lambda c: c != plain(OLD))  # one moment decides


@pytest.mark.parametrize("before", ["state.json", "the tensors"])
def test_read_while_another_process_saves_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """`kuosan sample` of a run that still trains, say."""
    checkpoint.save(tmp_path, *OLD)
    read, waiting = Path.read_bytes, [before]

    def beside(path: Path) -> bytes:
        if waiting and (path.name == "state.json") == (before == "state.json"):
            waiting.clear()
            checkpoint.save(tmp_path, *NEW)
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", beside)
        assert content(tmp_path) == plain(NEW)
    assert not waiting


@pytest.mark.parametrize("when", ["before", "torn"])
def test_a_full_disk_is_told_in_a_sentence_and_the_old_checkpoint_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    told = 0
    for call in range(1, 5):  # write and rename of the tensors, then of the state, up to the commit
        folder = tmp_path / f"{when}{call}"
        checkpoint.save(folder, *OLD)
        before = files(folder)
        with (
            failing(monkeypatch, call, when, full),
            pytest.raises(UserError, match="disk is full.*make room"),
        ):
            checkpoint.save(folder, *NEW)
        told += 1
        assert content(folder) == plain(OLD)
        assert files(folder) == before  # no temporary, no orphan
    assert told == 4


def test_what_reads_back_differently_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path, *OLD)
    real = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda p: real(p)[:-1] if p.name.endswith(".tmp") else real(p))
    with pytest.raises(UserError, match="reads back differently"):
        checkpoint.save(tmp_path, *NEW)
    monkeypatch.undo()
    assert content(tmp_path) == plain(OLD)


@pytest.mark.parametrize("which", ["state.json", "tensors"])
def test_a_flipped_byte_anywhere_is_noticed_and_nothing_is_deleted(tmp_path: Path, which: str) -> None:
    checkpoint.save(tmp_path, *OLD)
    path = tmp_path / which if which == "state.json" else next(tmp_path.glob("state-*"))
    good, rng = path.read_bytes(), random.Random(0)
    noticed = 0
    for place in rng.sample(range(len(good)), 50):
        bad = bytearray(good)
        bad[place] ^= rng.randrange(1, 256)
        path.write_bytes(bad)
        before = files(tmp_path)
        try:
            assert content(tmp_path) == plain(OLD)  # a space for a line feed: it says the same
        except UserError as error:
            noticed += 1
            assert str(tmp_path) in str(error)
            assert "damaged" in str(error) and "\n" not in str(error)
        assert files(tmp_path) == before
    assert noticed >= (48 if which == "state.json" else 50)
    path.write_bytes(good)
    assert content(tmp_path) == plain(OLD)


@pytest.mark.parametrize("rest", [0, 1, 30, -1])
def test_a_file_that_was_cut_short_is_noticed(tmp_path: Path, rest: int) -> None:
    for name in ("state.json", "tensors"):
        checkpoint.save(tmp_path / name, *OLD)
        path = (
            tmp_path / name / "state.json"
            if name == "state.json"
            else next((tmp_path / name).glob("state-*"))
        )
        path.write_bytes(path.read_bytes()[:rest])
        # All but the line feed at the end is the whole of it.
        if name == "state.json" and rest == -1:
            assert content(tmp_path / name) == plain(OLD)
            continue
        with pytest.raises(UserError, match="damaged"):
            checkpoint.load(tmp_path / name)


@pytest.mark.parametrize("text", ["[]", '"x"', "3", "null", "{}", '{"seal": 1}', "\udcff"])
def test_a_state_that_is_something_else_is_noticed(tmp_path: Path, text: str) -> None:
    checkpoint.save(tmp_path, *OLD)
    (tmp_path / "state.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match="damaged"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_state_that_is_not_finite_is_never_written(tmp_path: Path, value: float) -> None:
    checkpoint.save(tmp_path, *OLD)
    before = files(tmp_path)
    bad = {**NEW[0], "v": torch.tensor([1.0, value])}
    with pytest.raises(checkpoint.NotFiniteError, match="v"):
        checkpoint.save(tmp_path, bad, NEW[1])
    assert files(tmp_path) == before


def test_a_folder_that_cannot_be_made_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="file"):
        checkpoint.save(tmp_path / "file" / "last", *OLD)
    assert (tmp_path / "file").read_text() == "x"


def test_weights_stand_alone_and_notice_damage(tmp_path: Path) -> None:
    path, rng = tmp_path / "model.safetensors", random.Random(1)
    checkpoint.save_weights(path, OLD[0], {"network": {"kind": "x"}})
    loaded = checkpoint.load_weights(path)
    assert {k: v.tolist() for k, v in loaded.items()} == plain(OLD)[0]
    good = path.read_bytes()
    for place in rng.sample(range(len(good)), 50):
        bad = bytearray(good)
        bad[place] ^= rng.randrange(1, 256)
        path.write_bytes(bad)
        try:
            loaded = checkpoint.load_weights(path)
        except UserError as error:
            assert "resume" in str(error)
        else:  # only in the header's words may a change stay unseen, and the weights are right
            assert place < len(good) - sum(v.numel() * v.element_size() for v in OLD[0].values())
            assert {k: v.tolist() for k, v in loaded.items()} == plain(OLD)[0]


def test_the_file_of_a_checkpoint_is_json_for_people(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, *OLD)
    assert json.loads((tmp_path / "state.json").read_text(encoding="utf-8"))["step"] == 3
    assert "é" in (tmp_path / "state.json").read_text(encoding="utf-8")


def test_equal_weights_are_equal_files(tmp_path: Path) -> None:
    weights = {f"layer.{i}": torch.arange(4.0) + i for i in range(5)}
    about = {"kuosan": "0.1.0", "network": {"kind": "transformer", "dim": 32}}
    for i in range(12):
        checkpoint.save_weights(tmp_path / f"{i}.safetensors", weights, about)
    assert len({(tmp_path / f"{i}.safetensors").read_bytes() for i in range(12)}) == 1
    back = checkpoint.load_weights(tmp_path / "0.safetensors")
    assert all(torch.equal(back[name], weights[name]) for name in weights)
