"""Law: reference pages say what the code does."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import fields
from typing import get_args

import pytest

import kuosan
from docs import generate
from kuosan.cli.app import VERBS
from kuosan.cli.later import VERBS as LATER
from kuosan.core.curves import Curve
from kuosan.core.posteriors import Posterior
from kuosan.core.schedules import Schedule
from kuosan.denoisers.base import Denoiser
from kuosan.evaluation import METRICS
from kuosan.evaluation.music import HISTOGRAMS
from kuosan.evaluation.music.statistics import STATISTICS
from kuosan.evaluation.writing import DIVERSITY
from kuosan.modalities.kinds import SUFFIXES
from kuosan.processes.base import Bridged, Explicit, Process, Reversible
from kuosan.processes.discrete import Masked
from kuosan.recipes.music_rules import MusicWishes
from kuosan.recipes.plans_wishes import PlanWishes
from kuosan.recipes.rules import Wishes
from kuosan.recipes.schema import ProcessPart, Recipe, leaf_names
from kuosan.solvers import SOLVERS, Solver
from kuosan.training.objective import Objective
from tests.docs.pages import ROOT, blocks

ABSTRACTIONS = (
    Curve,
    Schedule,
    Posterior,
    Process,
    Explicit,
    Reversible,
    Bridged,
    Denoiser,
    Solver,
    Objective,
)

REFERENCE = ROOT / "docs" / "reference"


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "write"), [("recipe.md", generate.recipe_page), ("solvers.md", generate.solvers_page)]
)
def test_generated_pages_are_up_to_date(name: str, write: object) -> None:
    assert callable(write)
    assert page(name) == write(), "run `python -m docs.generate`"


def test_every_leaf_has_its_type_default_and_meaning() -> None:
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (.+) \|$", page("recipe.md"), re.MULTILINE))
    assert list(rows) == leaf_names(Recipe)
    for name, row in rows.items():
        kind, default, meaning = (cell.strip() for cell in re.split(r" \| ", row, maxsplit=2))
        assert kind and default and len(meaning) > 5, name


def test_types_and_bounds_are_those_of_the_code() -> None:
    kinds = {name: generate.type_name(info) for name, info in generate.leaves(Recipe)}
    assert kinds["training.ema"] == "`auto`, float, > 0, < 0.28"
    assert kinds["training.batch"] == "`auto`, int"
    assert kinds["data.size"] == "int, tuple[int, int], tuple[int, int, int]"
    assert kinds["objective.kind"] == "`denoising`, `elbo`"


def test_the_table_of_solvers_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| `([\w+-]+)` \| (\d) \| (\d) \| (yes|no) \|", page("solvers.md"), re.MULTILINE)
    assert rows == [
        (name, str(make().order), str(make().calls), "yes" if make().draws else "no")
        for name, make in SOLVERS.items()
    ]


def test_command_line_page_names_every_verb() -> None:
    text = page("command-line.md")
    listed = set(re.findall(r"^\| `kuosan (\w+)", text, re.MULTILINE))
    assert listed == {verb.__name__ for verb in VERBS}
    not_yet = text.split("are not part of version 0.1")[0].split("\n\n")[-1]
    assert set(re.findall(r"`(\w+)`", not_yet)) == set(LATER)


@pytest.mark.parametrize("kind", ["image", "text", "music", "shape"])
def test_data_page_names_every_suffix(kind: str) -> None:
    text = page("data.md")
    assert all(f"`{suffix}`" in text for suffix in SUFFIXES[kind])


def test_what_may_be_asked_of_texts_is_on_their_pages() -> None:
    guide, line = (ROOT / "docs/guides/text.md").read_text(encoding="utf-8"), page("command-line.md")
    for wish in fields(Wishes):
        flag = f"--{wish.name.replace('_', '-')}"
        assert flag in guide and flag in line, flag
    for name, make in SOLVERS.items():
        assert not issubclass(make().needs, Masked) or f"`{name}`" in guide, name
    for statistic in DIVERSITY:
        assert f"`{statistic.name}`" in guide, statistic.name
    for process in get_args(ProcessPart.model_fields["kind"].annotation)[2:]:
        assert f"| `{process}` |" in guide, process


def test_evaluation_page_names_every_metric() -> None:
    text = (ROOT / "docs/guides/evaluation.md").read_text(encoding="utf-8")
    for name in METRICS:
        assert f"`{name}`" in text or f"`{name}_SPACE`" in text, name


def test_python_page_names_what_the_package_exports() -> None:
    text = page("python.md")
    assert all(name in text for name in kuosan.__all__)


def test_architecture_page_has_the_signatures_of_the_code() -> None:
    text = (ROOT / "docs/concepts/architecture.md").read_text(encoding="utf-8")
    sketch = next(b.text for b in blocks("docs/concepts/architecture.md") if b.language == "python")
    classes = {c.__name__: c for c in ABSTRACTIONS}
    drawn = {node.name: node for node in ast.parse(sketch).body if isinstance(node, ast.ClassDef)}
    assert drawn.keys() == classes.keys()
    for name, node in drawn.items():
        methods = [m for m in node.body if isinstance(m, ast.FunctionDef)]
        abstract = {m.name for m in methods if m.decorator_list}
        assert abstract <= classes[name].__abstractmethods__, f"{name}: {abstract}"
        for method in methods:
            args = [a.arg for a in method.args.args] + ([method.args.kwarg.arg] if method.args.kwarg else [])
            assert args == list(inspect.signature(getattr(classes[name], method.name)).parameters), (
                method.name
            )
    for package in (p.name for p in (ROOT / "kuosan").iterdir() if (p / "__init__.py").is_file()):
        assert f"`{package}`" in text, f"the layer of {package} is not on the page"


def test_what_may_be_asked_and_measured_of_music_is_on_its_pages() -> None:
    guide, line = (ROOT / "docs/guides/music.md").read_text(encoding="utf-8"), page("command-line.md")
    for wish in fields(MusicWishes):
        assert f"--{wish.name}" in guide and f"--{wish.name}" in line, wish.name
    for name in (*HISTOGRAMS, *(statistic.name for statistic in STATISTICS)):
        assert f"`{name}`" in guide, name


def test_what_may_be_asked_and_measured_of_plans_is_on_its_pages() -> None:
    guide, line = (ROOT / "docs/guides/floor-plans.md").read_text(encoding="utf-8"), page("command-line.md")
    for wish in fields(PlanWishes):
        assert f"--{wish.name}" in guide and f"--{wish.name}" in line, wish.name
