"""Exit statuses of everything that is not the user's mistake: defects, full disks, signals, closed pipes."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kuosan.cli import app, main, training
from kuosan.cli.failures import Stopped, Terminated
from kuosan.errors import UserError
from kuosan.training import checkpoint

from .conftest import TINY, call, write_pictures

ROOT = Path(__file__).resolve().parents[2]


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Every command fails like this."""

    def fail(words: list[str], as_json: bool) -> None:
        raise error

    monkeypatch.setattr(app, "_run", fail)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UserError("the cat sat on x:\n  move it"), 2, "the cat sat on x: move it"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/a/b"),
            2,
            "/a/b could not be written: the disk is full",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 2, "the disk is full"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 2, "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), 2, "/a/b"),
        (OSError(errno.EROFS, "Read-only file system", "/a/b"), 2, "Read-only file system"),
        (MemoryError(), 2, "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 2, "not enough memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (Terminated(), 143, "interrupted"),
        (Stopped(signal.SIGTERM, "stopped at 7"), 143, "stopped at 7"),
    ],
)
def test_statuses(
    error: BaseException, status: int, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    failing(monkeypatch, error)
    result = call("inspect", "x", "--json")
    assert result.status == status == result.json["status"]
    assert said in result.json["error"] and "Traceback" not in result.err
    assert len(result.err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir()), "no log for what is no defect"


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("division by zero"), OSError(errno.ENOENT, "gone", app.__file__)]
)
def test_a_defect_leaves_its_traceback_in_a_file_that_is_named(
    error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    failing(monkeypatch, error)
    result = call("inspect", "x y", "--json")
    assert result.status == 1 and "Traceback" not in result.err
    (log,) = tmp_path.iterdir()
    assert result.json["log"] == str(log) and str(log) in result.err
    text = log.read_text()
    assert "Traceback" in text and type(error).__name__ in text and "kuosan inspect 'x y' --json" in text


def test_a_defect_in_a_run_is_logged_in_its_folder(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(session: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(training, "_work", fail)
    result = call("train", pictures, "--out", tmp_path / "run", *TINY)
    assert result.status == 1
    (log,) = (tmp_path / "run").glob("error-*.log")
    assert str(log) in result.err and "ZeroDivisionError" in log.read_text()


def test_a_reader_that_leaves_is_no_failure(pictures: Path) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with contextlib.redirect_stdout(Closed()), contextlib.redirect_stderr(io.StringIO()):
        assert main(["inspect", str(pictures)]) == 0
    words = f"{sys.executable} -m kuosan --help | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", words], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_an_interruption_while_measuring_keeps_the_training(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(session: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kuosan.recipes.finish.finish", stop)
        result = call("train", pictures, "--out", tmp_path / "run", *TINY, "--json")
    assert result.status == 130 and "kuosan resume" in result.json["error"]
    _, state = checkpoint.load(tmp_path / "run" / "checkpoints" / "last")
    assert state["counters"]["finished"] and state["counters"]["step"] == 12
    done = call("resume", tmp_path / "run", "--json")
    assert done.status == 0 and done.json["steps"] == 12


def test_two_processes_never_train_one_run(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def inside(session: object) -> None:
        seen.append(call("train", pictures, "--out", tmp_path / "run", *TINY))
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "_work", inside)
    call("train", pictures, "--out", tmp_path / "run", *TINY)
    assert seen[0].status == 2 and "another process" in seen[0].err


@pytest.mark.slow
def test_signals_stop_training_within_seconds_and_nothing_is_lost(tmp_path: Path) -> None:
    """SIGINT → 130 and SIGTERM → 143, within 5 s, with a checkpoint of the last step."""
    data = write_pictures(tmp_path / "data", 24)
    words = [
        sys.executable,
        "-m",
        "kuosan",
        "train",
        str(data),
        *TINY[2:],
        "--budget",
        "100000steps",
        "--json",
    ]
    running = {}
    for signum in (signal.SIGINT, signal.SIGTERM):
        out = tmp_path / signum.name
        running[signum] = subprocess.Popen(
            [*words, "--out", str(out)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    try:
        for signum in running:
            metrics, patience = tmp_path / signum.name / "metrics.jsonl", time.monotonic() + 60
            while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < patience:
                time.sleep(0.05)
        for signum, process in running.items():
            sent = time.monotonic()
            process.send_signal(signum)
            out, err = process.communicate(timeout=30)
            assert time.monotonic() - sent < 5
            assert process.returncode == 128 + signum, err
            assert "Traceback" not in err and "kuosan resume" in err and f'"status": {128 + signum}' in out
            _, state = checkpoint.load(tmp_path / signum.name / "checkpoints" / "last")
            assert f"interrupted at step {state['counters']['step']:,};" in err
            assert state["counters"]["step"] >= 1
    finally:
        for process in running.values():
            process.kill()


def test_help_is_quick_as_torch_stays_out() -> None:
    code = (
        "import sys; from kuosan.cli import main; main(['train', '--help']); sys.exit('torch' in sys.modules)"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OMP")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, timeout=60
    )
    assert done.returncode == 0, "something imports torch before a verb needs it"


def test_threads_are_the_cores_unless_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "cores", lambda: 7)
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    call("--version")
    assert os.environ["OMP_NUM_THREADS"] == "7" and os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    call("--version")
    assert os.environ["OMP_NUM_THREADS"] == "3"
