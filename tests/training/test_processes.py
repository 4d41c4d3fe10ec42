"""Two and four processes on one run: what one would have found, and one voice about it."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from kuosan.cli import main
from kuosan.errors import UserError
from kuosan.training import checkpoint, launch
from kuosan.training.parallel import World
from tests.recipes import small as folders
from tests.training import processes
from tests.training.processes import STEPS, course, plain, transformer
from tests.training.small import training

ALONE = World()
CONTEXT = multiprocessing.get_context("forkserver")  # one import of torch for all of them


def launched(size: int, folder: Path, tasks: list[str]) -> dict[str, list[dict[str, Any]]]:
    """What every process found at each task."""
    CONTEXT.set_forkserver_preload(["tests.training.processes"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [
        CONTEXT.Process(target=processes.work, args=(rank, size, port, folder, tasks)) for rank in range(size)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(300)
    failed = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("failed-*"))]
    assert not failed, failed[0]
    assert [process.exitcode for process in started] == [0] * size
    return {
        name: [json.loads((folder / f"{name}-{r}.json").read_text(encoding="utf-8")) for r in range(size)]
        for name in tasks
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("processes")
    folders.pictures(made / "data")
    return made


@pytest.fixture(scope="module")
def two(folder: Path) -> dict[str, Any]:
    return launched(2, folder, ["messages", "learning", "troubles", "sharding", "session"])


@pytest.fixture(scope="module")
def four(folder: Path, two: object, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """They go on with what two saved."""
    here = tmp_path_factory.mktemp("four")
    for name in ("sharded", "unsharded"):
        shutil.copytree(folder / f"{name}, half", here / f"from {name}")
    return launched(4, here, ["elsewhere"])


def same(a: Any, b: Any) -> bool:
    return bool(torch.allclose(torch.tensor(a), torch.tensor(b), rtol=1e-5, atol=1e-7))


# -- messages -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [0, 1, 4, 7, 15])
def test_shares_are_everything_once_and_nearly_equal(size: int, count: int) -> None:
    shares = [World(rank, size).share(count) for rank in range(size)]
    assert [i for share in shares for i in range(count)[share]] == list(range(count))
    sizes = [share.stop - share.start for share in shares]
    assert max(sizes) - min(sizes) <= 1 and sizes[0] == max(sizes)


def test_what_is_said_arrives(two: dict[str, Any]) -> None:
    first, second = two["messages"]
    assert first["shares"] == [[0, 4], [4, 7]]
    assert first["told"] == [{"ä": [0, 0.1]}] * 2 and first["heard"] == ["", "x"]
    assert first["spread"] == [True, True]
    assert first["stacked"] == [0, 1, 2, 3] and second["stacked"] is False


def test_a_process_is_one_of_many_only_if_the_launcher_says_all(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
    for name, value in said.items():
        assert (launch.rank(), launch.processes(), launch.place()) == (0, 1, 0)
        monkeypatch.setenv(name, value)
    assert (launch.rank(), launch.processes(), launch.place()) == (3, 4, 1)


# -- training -----------------------------------------------------------------------------------------------


def test_two_processes_find_the_losses_of_one(two: dict[str, Any], tmp_path: Path) -> None:
    run = plain(tmp_path, ALONE)
    wanted = course(run)
    first, second = two["learning"]
    assert len(wanted) == STEPS and first["course"] == second["course"]
    assert same(first["course"], wanted) and same(first["micro"], wanted)
    assert first["best"] == pytest.approx(run.count.best_loss, rel=1e-5)
    assert same(first["timing"], run.objective.timing.state()["seen"].tolist())


def test_they_hold_the_same_bits_and_a_killed_run_ends_with_them(two: dict[str, Any]) -> None:
    first = two["learning"][0]
    assert first["from"] == 6 and len(set(first["ends"] + first["resumed"])) == 1


def test_memory_that_one_lacks_makes_smaller_micro_batches_for_all(two: dict[str, Any]) -> None:
    for found in two["troubles"]:
        assert found["micro"] == 2 and same(found["tight"], found["roomy"])


def test_they_go_back_together_and_leave_together(two: dict[str, Any]) -> None:
    first = two["troubles"][0]
    assert first["returns"] == [[1, STEPS, 5]] * 2
    assert first["signal"] == [[signal.SIGTERM, 4]] * 2


def test_a_batch_for_fewer_than_there_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="training.batch 8 .*number of processes, 9.*--set training.batch=9"):
        training(tmp_path, world=World(0, 9))


# -- sharding -----------------------------------------------------------------------------------------------


def test_a_sharded_model_learns_the_same(two: dict[str, Any], tmp_path: Path) -> None:
    run = transformer(tmp_path, ALONE)
    wanted, weights = course(run), sum(p.numel() for p in run.parameters)
    found = two["sharding"][0]
    assert found["sharded"] and same(found["course"], wanted)
    assert sum(found["held"]) == weights and max(found["held"]) < 0.6 * weights
    assert found["rest"] == found["course"][2:]  # killed and resumed, to the bit


@pytest.mark.parametrize("name", ["sharded", "unsharded"])
def test_what_two_saved_one_and_four_go_on_with(
    two: dict[str, Any], four: dict[str, Any], folder: Path, tmp_path: Path, name: str
) -> None:
    wanted = two["sharding"][0]["course"]
    step, rest = four["elsewhere"][0][name]
    assert step == 2 and same(rest, wanted[2:])
    alone = transformer(Path(shutil.copytree(folder / f"{name}, half", tmp_path / "half")), ALONE)
    assert alone.resume() and alone.count.step == 2
    assert same(course(alone), wanted[2:])


def test_four_processes_find_the_losses_of_one(four: dict[str, Any], tmp_path: Path) -> None:
    assert same(four["elsewhere"][0]["course"], course(plain(tmp_path, ALONE)))


def test_shards_that_were_damaged_are_refused(two: object, folder: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(folder / "sharded" / "last", tmp_path / "last"))
    path = next(copied.glob("shards-?/*.safetensors"))
    bad = bytearray(path.read_bytes())
    bad[-1] ^= 1
    path.write_bytes(bad)
    with pytest.raises(UserError, match="damaged.*checksum"):
        checkpoint.load(copied)


@pytest.mark.parametrize("leaves, words", [({"batch": 9}, "no multiple of 2.*training.batch=10")])
def test_what_cannot_be_sharded_is_refused(tmp_path: Path, leaves: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        training(tmp_path, world=World(0, 2), shard="full", **leaves)


# -- the folder of a run ------------------------------------------------------------------------------------


def test_through_the_command_line_two_write_what_one_does(
    two: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    first, second = two["session"]
    assert first["status"] == second["status"] == 0
    assert first["heard"] and not second["heard"] and not second["said"]
    one = folders.session(folder / "data", tmp_path / "run", budget="8steps", training__validations=2)
    for _ in one.steps():
        pass

    def rows(run: Path) -> list[list[float]]:
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [
            [row["step"], row["loss"], row["grad_norm"], row.get("val_loss", 0)]
            for row in map(json.loads, lines)
        ]

    assert same(rows(folder / "run"), rows(tmp_path / "run"))
    assert len(list((folder / "run" / "tensorboard").iterdir())) == 1
    pictures = [
        sorted(p.name for p in (run / "samples").iterdir()) for run in (folder / "run", tmp_path / "run")
    ]
    assert pictures[0] == pictures[1]


def test_they_draw_the_files_that_one_draws(
    two: object, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(processes.sampling(folder / "run", tmp_path / "samples")) == 0
    capsys.readouterr()

    def files(of: Path) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in of.iterdir()}

    mine, theirs = files(tmp_path / "samples"), files(folder / "samples")
    assert len(mine) == 72 and mine == theirs


def test_a_verb_that_works_alone_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert main(["cite", "nowhere"]) == 2
    assert "`kuosan cite` works in one process, and 2 were launched" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "1")
    assert main(["cite", "nowhere"]) == 2 and not capsys.readouterr().err
