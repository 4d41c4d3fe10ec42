"""Law: whatever the documentation tells people to type works, and prints what it says."""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import shlex
import shutil
import subprocess
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import kuosan
from kuosan.cli import main
from kuosan.cli.app import build
from kuosan.cli.later import VERBS as LATER
from kuosan.cli.options import spread
from tests.cli.test_theory import LITTLE
from tests.docs.pages import PAGES, ROOT, TINY, TINY_TEXTS, Block, argv, blocks, commands, python

DEMO, DIGITS = "runs/demo", "runs/demo-data"
RUN_PAGES = [page for page in PAGES if any(b.language in ("bash", "python") for b in blocks(page))]
FOREIGN = pytest.mark.foreign_rng("diffusers draws from the global generator as it builds a network")


def _cases() -> list[Any]:
    out = []
    for page in RUN_PAGES:
        # The Chinese page has the English one's blocks, see test_translation: once is enough.
        if page == "README.zh.md":
            continue
        code = [b.text for b in blocks(page)]
        marks = [pytest.mark.slow]
        if any("diffusers" in text for text in code):
            marks.append(FOREIGN)
        out.append(pytest.param(page, marks=marks, id=page))
    return out


def write_digits(folder: Path, each: int = 8) -> None:
    """As `kuosan demo` writes them, fewer."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for digit in range(10):
        chosen = np.flatnonzero(digits.target == digit)[: each + 2]
        for i, number in enumerate(chosen):
            path = folder / ("train" if i < each else "val") / str(digit) / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.rint(digits.images[number] * (255 / 16)).astype(np.uint8)).save(path)


def call(words: list[str]) -> tuple[int, str]:
    """One command line in this process: its status, and its answer or the sentence that it fails with."""
    kuosan.STARTED = time.monotonic()  # a budget of time counts from the start of a process
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()) as err:
        status = main(words)
    assert status in (0, 2), err.getvalue()
    return status, out.getvalue() if status == 0 else err.getvalue().splitlines()[-1]


@pytest.fixture(scope="module", autouse=True)
def _short_looks() -> Iterator[None]:
    """What a page asks for is worked out as briefly as its trainings."""
    from kuosan.adapt import tune
    from kuosan.explain import theory
    from kuosan.modalities import AudioModality
    from kuosan.recipes import finish

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tune, "FASTER", tune.FASTER[:2])
        patch.setattr(theory, "Study", LITTLE)
        patch.setattr(finish, "MOST", 64)
        patch.setattr(AudioModality, "most_decoded", 24)
        yield


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what `kuosan demo` leaves, small."""
    folder = tmp_path_factory.mktemp("demo")
    write_digits(folder / DIGITS)
    status, _ = call(["train", str(folder / DIGITS), "--out", str(folder / DEMO), *shlex.split(TINY)])
    assert status == 0
    return folder


@pytest.fixture
def place(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, and the working folder."""
    shutil.copytree(demo, tmp_path, dirs_exist_ok=True)
    recipe = tmp_path / DEMO / "recipe.yaml"
    recipe.write_text(recipe.read_text(encoding="utf-8").replace(str(demo), str(tmp_path)), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_bash(block: Block, where: str) -> str:
    """Its commands one by one; what they print."""
    printed = []
    for line in commands(block):
        if line.startswith("kuosan "):
            status, out = call(argv(line, block.tiny, block.texts))
        else:
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            done = subprocess.run(["bash", "-ec", line], capture_output=True, text=True, env=environment)
            status, out = done.returncode, done.stdout
        assert status == block.status, f"{where}: {line} ended with status {status}"
        printed.append(out)
    return "".join(printed)


def run_python(block: Block, names: dict[str, Any], where: str) -> str:
    """The block with the names of the blocks before it; what it prints."""
    path = Path(f"block_{block.line}.py")
    path.write_text(python(block), encoding="utf-8")
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            left = runpy.run_path(str(path), init_globals=names, run_name="page")
    except BaseException as error:
        raise AssertionError(f"{where}: {type(error).__name__}: {error}") from error
    names |= {k: v for k, v in left.items() if not k.startswith("__")}
    path.unlink()
    return out.getvalue()


@pytest.mark.parametrize("page", _cases())
def test_a_page_does_what_it_says(page: str, place: Path) -> None:
    names: dict[str, Any] = {}
    printed = ""
    for block in blocks(page):
        where = f"{page}:{block.line}"
        if block.language == "bash" and not block.skipped:
            printed = run_bash(block, where)
        elif block.language == "python" and not block.skipped:
            printed = run_python(block, names, where)
        elif block.language == "text" and block.directive == "output: same":
            assert _shape(block.text) == _shape(printed), f"{where} prints otherwise:\n{printed}"


def _shape(text: str) -> str:
    # A picture made by floating-point arithmetic may differ by a grey level on another processor.
    text = re.sub(r"^(fingerprint +)\w+", r"\1…", text, flags=re.MULTILINE)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_are_not_run_are_at_least_understood(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for block in blocks(page):
        where = f"{page}:{block.line}"
        if block.skipped:
            assert re.fullmatch(r"run: skip, \S.+", block.directive), f"{where}: skipped without a reason"
        if block.language == "python":
            compile(block.text, where, "exec")
        if block.language != "bash":
            continue
        for line in commands(block):
            words = shlex.split(line)
            if words[0] == "kuosan" and words[1] not in LATER:
                build().parse_args(spread(argv(line, False)), exit_on_error=False, print_error=False)
            if words[0] == "make":
                assert set(words[1:]) <= targets, f"{where}: no such target of make: {line}"
            if words[:2] == ["pip", "install"]:
                asked = re.findall(r"kuosan\[([\w,]+)\]", line)
                extras = {e for group in asked for e in group.split(",")}
                assert extras <= set(project["optional-dependencies"]), f"{where}: no such extra: {line}"


@pytest.mark.parametrize("page", PAGES)
def test_printed_text_says_where_it_is_from(page: str) -> None:
    before = ""
    for block in blocks(page):
        if block.language == "text" and before in ("bash", "python"):
            known = block.directive == "output: same" or re.fullmatch(
                r"output: as from \S.+", block.directive
            )
            assert known, f"{page}:{block.line}: say whether this output is always the same"
        before = block.language


@pytest.mark.parametrize("page", PAGES)
def test_links_within_the_documentation_lead_somewhere(page: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:|#", target):
            path = (ROOT / page).parent / target.partition("#")[0]
            assert path.exists() or path.name == "samples.png", f"{page}: {target} is not there"


def test_translation_has_the_same_blocks() -> None:
    english, chinese = (
        [(b.language, re.sub(r"#.*", "", b.text), b.directive) for b in blocks(page)]
        for page in ("README.md", "README.zh.md")
    )
    assert english == chinese


def test_the_blocks_that_are_found_are_those_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bash = "<!-- run: tiny -->\n```bash\nkuosan train D --budget 10m \\\n  --seed 1  # long\n```\n"
    page = f"# A\n\n{bash}\n```text\nx\n```\n"
    monkeypatch.setattr("tests.docs.pages.ROOT", tmp_path)
    (tmp_path / "a.md").write_text(page, encoding="utf-8")
    train, text = blocks("a.md")
    assert (train.language, train.line, train.tiny, text.language) == ("bash", 4, True, "text")
    (line,) = commands(train)
    assert argv(line, False) == ["train", "D", "--budget", "10m", "--seed", "1"]
    assert argv(line, True) == ["train", "D", "--seed", "1", *shlex.split(TINY)]
    (tmp_path / "a.md").write_text(page.replace("tiny", "tiny texts"), encoding="utf-8")
    of_texts, _ = blocks("a.md")
    assert (of_texts.tiny, of_texts.texts, train.texts) == (True, True, False)
    assert argv(line, True, True) == ["train", "D", "--seed", "1", *shlex.split(TINY_TEXTS)]
    assert "network.patch" not in TINY_TEXTS
