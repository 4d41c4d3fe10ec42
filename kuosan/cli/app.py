"""Parsing, printing, exit statuses: what all verbs share."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, TextIO

from cyclopts import (
    App,
    CycloptsError,
    MissingArgumentError,
    Parameter,
    UnknownCommandError,
    UnusedCliTokensError,
)

import kuosan
from kuosan.cli import later
from kuosan.cli.anomaly import anomaly
from kuosan.cli.answer import Answer, to_json
from kuosan.cli.cite import cite
from kuosan.cli.compare import compare
from kuosan.cli.demo import demo
from kuosan.cli.distil import distil
from kuosan.cli.doctor import doctor
from kuosan.cli.encode import encode
from kuosan.cli.evaluate import evaluate
from kuosan.cli.export import export
from kuosan.cli.failures import Failure, Stopped, Terminated, explain, working_in
from kuosan.cli.finetune import finetune
from kuosan.cli.inspect import inspect
from kuosan.cli.interpolate import interpolate
from kuosan.cli.notes import PLAIN_WIDTH
from kuosan.cli.options import spread
from kuosan.cli.resume import resume
from kuosan.cli.sample import sample
from kuosan.cli.theory import theory
from kuosan.cli.train import train
from kuosan.cli.tune import tune
from kuosan.errors import UserError
from kuosan.training import launch

VERBS: tuple[Callable[..., Answer], ...] = (
    train,
    resume,
    sample,
    encode,
    interpolate,
    anomaly,
    evaluate,
    compare,
    tune,
    distil,
    finetune,
    inspect,
    export,
    cite,
    doctor,
    theory,
    demo,
)
TOGETHER = ("train", "resume", "sample", "evaluate", "doctor")  # that several processes can work on
PROLOGUE = "Kuosan (扩散): from a folder of your own files to a diffusion model that you can trust."
EPILOGUE = "Start with `kuosan demo`, or `kuosan train FOLDER`. `kuosan VERB --help` explains a verb."


def build() -> App:
    """The application with all verbs."""
    app = App(
        name="kuosan",
        help=PROLOGUE,
        help_epilogue=EPILOGUE,
        version=kuosan.__version__,
        help_format="plaintext",
        default_parameter=Parameter(negative=()),
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    for place, verb in enumerate(VERBS):
        app.command(verb, sort_key=place)
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    options = words[: words.index("--")] if "--" in words else words
    as_json = "--json" in options
    stdout = sys.stdout
    _settle_streams()
    working_in(None)
    with _terminable(), warnings.catch_warnings(), redirect_stdout(sys.stderr if as_json else stdout):
        if not sys.warnoptions:
            warnings.simplefilter("ignore")  # other libraries' remarks are not the user's affair
        try:
            _settle_environment()
            answer = _run(words, as_json)
        except BaseException as error:
            failure = explain(_named(error, words), words)
            return _fail(failure, stdout if as_json else None) if _speaks(error) else failure.status
    if not launch.rank():
        _print(to_json(answer.data) if as_json else answer.text, stdout)
    _part()
    return 0


def _run(words: list[str], as_json: bool) -> Answer:
    rest = [w for w in words if w != "--json"] if as_json else words
    verb = next((w for w in rest if not w.startswith("-")), "")
    if verb in later.VERBS:
        raise UserError(later.sentence(verb))
    if launch.processes() > 1 and verb not in TOGETHER:
        raise UserError(
            f"`kuosan {verb}` works in one process, and {launch.processes()} were launched: run it without torchrun "
            f"(together they can {', '.join(TOGETHER)})"
        )
    from rich.console import Console

    shows = sys.stdout.isatty() and not as_json
    text = io.StringIO()  # of help and version, which cyclopts would print itself
    console = Console(file=text, force_terminal=shows, width=None if shows else PLAIN_WIDTH)
    answer = build()(spread(rest), console=console)
    return (
        answer if isinstance(answer, Answer) else Answer(text.getvalue().rstrip(), {"text": text.getvalue()})
    )


def _named(error: BaseException, words: list[str]) -> BaseException:
    """A mistake on the command line as the user's, in a sentence that says where help is."""
    if not isinstance(error, CycloptsError):
        return error
    verb = next((w for w in words if w in {v.__name__ for v in VERBS}), "")
    command = f"kuosan {verb}".strip()
    text = " ".join(str(error).split()).rstrip(".")
    if isinstance(error, UnknownCommandError):
        given = next((w for w in words if not w.startswith("-")), words[0])
        near = text.partition("Did you mean ")[2].partition("?")[0].strip('"')
        hint = (
            f"did you mean `kuosan {near}`?"
            if near
            else f"choose one of {', '.join(v.__name__ for v in VERBS)}"
        )
        return UserError(f"there is no command {given!r}: {hint}")
    if isinstance(error, UnusedCliTokensError):
        extra = " ".join(error.unused_tokens or [])
        return UserError(f"{command} cannot use {extra!r}: leave it away, or see `{command} --help`")
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        return UserError(f"{command} needs a value for {error.argument.name}: see `{command} --help`")
    see = f" (`{command} --help` lists all)" if text.endswith("?") else f": see `{command} --help`"
    return UserError(f"{text[:1].lower()}{text[1:]}{see}")


def _speaks(error: BaseException) -> bool:
    """Whether this process says what went wrong: of several the one that failed first, or the first if stopped."""
    if launch.processes() == 1:
        return True
    if isinstance(error, (Stopped, KeyboardInterrupt, Terminated)):
        return launch.rank() == 0
    from kuosan.training.parallel import fails_first

    return fails_first()


def _part() -> None:
    """From the processes that were launched together, if there were any."""
    if launch.processes() > 1:
        from kuosan.training.parallel import leave

        leave()


def _fail(failure: Failure, stdout: TextIO | None) -> int:
    which = f"process {launch.rank()} of {launch.processes()}: " if launch.rank() else ""
    with suppress(BrokenPipeError, ValueError):  # not `note`, which one process alone may use
        print(f"kuosan: {which}{failure.sentence}", file=sys.stderr, flush=True)
    if stdout is not None:
        _print(to_json({"error": failure.sentence, "status": failure.status, **failure.data}), stdout)
    return failure.status


def _print(text: str, stdout: TextIO) -> None:
    """A text on stdout; a reader that has left (`kuosan inspect DATA | head -1`) is no failure."""
    if not text:
        return
    try:
        print(text, file=stdout, flush=True)
    except BrokenPipeError:
        with suppress(OSError, ValueError):  # or Python tries again, and complains, at its exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())


def _settle_streams() -> None:
    """A name that is no text, or a terminal without ±, must not end a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def cores() -> int:
    """The cores that this process may use: its affinity, and its container's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
        return max(1, min(count, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or "max": no quota
        return count


def _settle_environment() -> None:
    """Threads as there are cores, and no network; must come before torch is imported.

    Threads that wait should sleep: on two cores that six other processes shared, spinning ones made 8
    training items/s (`doctor.probe`), sleeping ones 54 to 76, a single thread 71; with the cores to
    themselves, both kinds made 360 to 420.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(cores()))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


@contextmanager
def _terminable() -> Iterator[None]:
    """While open, SIGTERM unwinds like Ctrl-C does, so that files are closed and locks released."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    ):
        yield
        return

    def leave(signum: int, frame: Any) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
