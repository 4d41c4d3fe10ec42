"""The shape of the code, enforced: layers, sizes, and what no module may call.

    0  core, networks
    1  processes, denoisers
    2  solvers, guidance, training, codecs, modalities
    3  evaluation, audit, explain, adapt, rivals
    4  recipes, serve, cli

A module imports from its own layer or from a lower number, and the modalities import nothing that knows of
diffusion. `kuosan/errors.py` and `kuosan/__init__.py` stand outside. An import inside a function, under
`TYPE_CHECKING` or through `importlib.import_module("…")` is an import like any other: it is the dependency
that counts, not the moment it is paid.

The checker reads source with `ast` and returns one line per finding. It is itself tested on made-up trees
that break each rule once, and on one that only looks as if it did.
"""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

LAYERS = {
    name: number
    for number, names in enumerate(
        (
            ("core", "networks"),
            ("processes", "denoisers"),
            ("solvers", "guidance", "training", "codecs", "modalities"),
            ("evaluation", "audit", "explain", "adapt", "rivals"),
            ("recipes", "serve", "cli", "__main__"),
        )
    )
    for name in names
}
OUTSIDE = {"errors"}
TOP = max(LAYERS.values())
MAX_LINES, MEDIAN_LINES = 400, 180

NEVER = {
    "torchvision",
    "torchaudio",
    "pickle",
    "cPickle",
    "cloudpickle",
    "dill",
    "shelve",
    "marshal",
    "joblib",
}
NETWORK = {"requests", "httpx", "urllib.request", "http.client", "socket", "aiohttp"}
FORBIDDEN_CALLS = {
    "torch.load": "reads pickles; use safetensors",
    "eval": "runs text as code",
    "exec": "runs text as code",
    "compile": "runs text as code",
    "torch.manual_seed": "global random state",
    "torch.seed": "global random state",
    "torch.random.manual_seed": "global random state",
    "torch.random.seed": "global random state",
    "torch.cuda.manual_seed": "global random state",
    "torch.cuda.manual_seed_all": "global random state",
    "torch.set_rng_state": "global random state",
    "torch.random.set_rng_state": "global random state",
}
# Free functions and in-place methods that draw from the global generator unless they are handed another one.
DRAWS = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "poisson"}
DRAWS_LIKE = {"rand_like", "randn_like", "randint_like"}
DRAWS_IN_PLACE = {
    "normal_",
    "uniform_",
    "bernoulli_",
    "exponential_",
    "random_",
    "cauchy_",
    "log_normal_",
    "geometric_",
}
DRAWS_IN_INIT = {
    "trunc_normal_",
    "xavier_normal_",
    "xavier_uniform_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "orthogonal_",
    "sparse_",
}
NUMPY_EXPLICIT = {
    "default_rng",
    "Generator",
    "SeedSequence",
    "BitGenerator",
    "PCG64",
    "PCG64DXSM",
    "Philox",
    "MT19937",
}
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b")


def imports(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything that the module imports, relative imports resolved."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - (node.level - 1)]
                base = ".".join([*parent, base] if base else parent)
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and dotted(node.func).split(".")[-1] in {
            "import_module",
            "__import__",
        }:
            if node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
                name = node.args[0].value
                yield node.lineno, f"{package}{name}" if name.startswith(".") else name


def dotted(node: ast.expr) -> str:
    """`a.b.c` of a chain of attributes; a call or subscript in it is written `?`."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return "?"


def check_imports(name: str, tree: ast.AST, is_package: bool) -> Iterator[tuple[int, str]]:
    parts = name.split(".")
    home = parts[1] if len(parts) > 1 else None
    for line, target in imports(tree, name, is_package):
        top = target.split(".")[0]
        if top in NEVER:
            yield line, f"imports {top}, which Kuosan never uses"
        if home in LAYERS and LAYERS[home] < TOP and any(f"{target}.".startswith(f"{n}.") for n in NETWORK):
            yield line, f"imports {target}: only serve/ and cli/ may reach a network"
        other = f"{target}.".split(".")[1]
        if top != "kuosan" or home is None or other in OUTSIDE or other == "__version__":
            continue
        if home in OUTSIDE:
            yield line, f"imports {target}, but {home}.py stands outside the layers"
        elif home not in LAYERS:
            yield line, f"{home}/ is in no layer: add it to the table"
        elif other not in LAYERS and LAYERS[home] < TOP:
            yield line, f"imports {target} from the package's front, which is above every layer"
        elif home == "modalities" and other not in {"modalities", "core"}:
            yield line, f"imports {target}, but modalities know nothing of diffusion"
        elif other in LAYERS and LAYERS[other] > LAYERS[home]:
            yield line, f"imports {target} (layer {LAYERS[other]}) from layer {LAYERS[home]}"


def check_calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    aliases: dict[str, str] = {}  # local name → what it stands for, so that `from torch import load` is seen
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            aliases.update({a.asname: a.name for a in node.names if a.asname})
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            aliases.update({a.asname or a.name: f"{node.module}.{a.name}" for a in node.names})
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and "NotImplementedError" in ast.dump(node):
            yield node.lineno, "raises NotImplementedError: make it abstract, or finish it"
        if not isinstance(node, ast.Call):
            continue
        first, dot, rest = dotted(node.func).partition(".")
        full = aliases.get(first, first) + dot + rest
        last = full.split(".")[-1]
        given = {keyword.arg for keyword in node.keywords}
        free = None not in given and "generator" not in given
        if full in FORBIDDEN_CALLS:
            yield node.lineno, f"{full}: {FORBIDDEN_CALLS[full]}"
        elif full.startswith("numpy.random.") and last not in NUMPY_EXPLICIT:
            yield node.lineno, f"{full}: global random state; use numpy.random.default_rng(seed)"
        elif full == "numpy.random.default_rng" and not node.args and not node.keywords:
            yield node.lineno, "default_rng() without a seed is not reproducible"
        elif full.startswith("random.") and full != "random.Random":
            yield node.lineno, f"{full}: global random state; use random.Random(seed)"
        elif full in {f"torch.{draw}" for draw in DRAWS | DRAWS_LIKE} and free:
            yield node.lineno, f"{full} without generator=: global random state"
        elif last in DRAWS_IN_PLACE | DRAWS_IN_INIT and "." in full and free:
            yield node.lineno, f".{last} without generator=: global random state"
        elif last in {"DataLoader", "RandomSampler"} and free:
            yield node.lineno, f"{last} without generator=: global random state"
        if any(k.arg == "allow_pickle" and not is_false(k.value) for k in node.keywords):
            yield node.lineno, "allow_pickle: never unpickle"


def is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def check_tree(root: Path) -> list[str]:
    """Every finding in the package `root/kuosan`, as `path:line: what`."""
    findings = []
    lengths = []
    for path in sorted((root / "kuosan").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text, filename=str(path))
        relative = path.relative_to(root)
        is_package = path.name == "__init__.py"
        name = ".".join(relative.parent.parts if is_package else relative.with_suffix("").parts)
        found = [*check_imports(name, tree, is_package), *check_calls(tree)]
        lines = text.splitlines()
        found += [(i, "unfinished: do it or drop it") for i, x in enumerate(lines, 1) if UNFINISHED.search(x)]
        if len(lines) > MAX_LINES:
            found.append((len(lines), f"{len(lines)} lines, more than {MAX_LINES}: split it by idea"))
        if not is_package:
            lengths.append(len(lines))
        findings += [f"{relative.as_posix()}:{line}: {what}" for line, what in sorted(set(found))]
    if lengths and statistics.median(lengths) >= MEDIAN_LINES:
        findings.append(
            f"kuosan: median file of {statistics.median(lengths):.0f} lines, not under {MEDIAN_LINES}"
        )
    return findings


def test_the_package_keeps_its_shape() -> None:
    findings = check_tree(ROOT)
    assert not findings, "\n" + "\n".join(findings)


def test_every_package_is_in_a_layer() -> None:
    packages = {path.parent.name for path in (ROOT / "kuosan").glob("*/__init__.py")}
    assert packages <= set(LAYERS), f"in no layer: {sorted(packages - set(LAYERS))}"


def findings_of(tmp_path: Path, where: str, source: str) -> list[str]:
    path = tmp_path / "kuosan" / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")
    return check_tree(tmp_path)


@pytest.mark.parametrize(
    ("where", "source", "finding"),
    [
        ("core/a.py", "from kuosan.solvers import ddim", "layer 2) from layer 0"),
        ("core/a.py", "import kuosan.processes.gaussian", "layer 1) from layer 0"),
        ("core/a.py", "def f():\n    from ..recipes import image", "layer 4) from layer 0"),
        (
            "core/a.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .. import cli",
            "layer 4)",
        ),
        ("core/__init__.py", "from .. import training", "layer 2) from layer 0"),
        (
            "denoisers/a.py",
            "import importlib\nimportlib.import_module('kuosan.guidance.cfg')",
            "layer 2) from layer 1",
        ),
        ("evaluation/a.py", "from kuosan import load", "above every layer"),
        ("evaluation/a.py", "import kuosan", "above every layer"),
        ("extra/a.py", "from kuosan.core import at", "in no layer"),
        ("errors.py", "from kuosan.core import at", "outside the layers"),
        ("modalities/a.py", "from kuosan.networks import unet", "know nothing of diffusion"),
        ("modalities/a.py", "from kuosan.training.ema import Average", "know nothing of diffusion"),
        ("training/a.py", "import urllib.request", "reach a network"),
        ("networks/a.py", "import torchvision.transforms", "torchvision"),
        ("cli/a.py", "import pickle", "pickle"),
        ("cli/a.py", "import torch\ntorch.load('x')", "torch.load"),
        ("cli/a.py", "from torch import load as fetch\nfetch('x')", "torch.load"),
        ("cli/a.py", "import numpy as np\nnp.load('x', allow_pickle=True)", "never unpickle"),
        ("cli/a.py", "eval('1')", "text as code"),
        ("cli/a.py", "exec('1')", "text as code"),
        ("core/a.py", "import torch\ntorch.manual_seed(0)", "global random state"),
        ("core/a.py", "import torch as t\nt.cuda.manual_seed_all(0)", "global random state"),
        ("core/a.py", "import torch\ntorch.randn(3)", "without generator="),
        ("core/a.py", "import torch\ntorch.randn_like(torch.zeros(3))", "without generator="),
        ("core/a.py", "from torch import nn\nnn.init.xavier_uniform_(w)", "without generator="),
        ("core/a.py", "def f(w):\n    return w.normal_()", "without generator="),
        ("core/a.py", "import numpy as np\nnp.random.seed(0)", "global random state"),
        ("core/a.py", "from numpy.random import rand\nrand(3)", "global random state"),
        ("core/a.py", "import numpy as np\nnp.random.default_rng()", "not reproducible"),
        ("core/a.py", "import random\nrandom.shuffle([])", "global random state"),
        ("core/a.py", "def f():\n    raise NotImplementedError", "make it abstract"),
        ("core/a.py", "x = 1  # TO" + "DO later", "unfinished"),
        ("core/a.py", "x = 1\n" * 401, "401 lines"),
        ("core/a.py", "x = 1\n" * 180, "median file of 180 lines"),
    ],
)
def test_the_checker_sees_each_breach(tmp_path: Path, where: str, source: str, finding: str) -> None:
    findings = findings_of(tmp_path, where, source)
    assert any(finding in line for line in findings), findings


@pytest.mark.parametrize(
    ("where", "source"),
    [
        ("cli/a.py", "from kuosan import load\nfrom kuosan.core import at\nimport socket"),
        ("core/a.py", "from kuosan import __version__\nfrom kuosan.errors import UserError\nfrom . import b"),
        ("modalities/a.py", "from kuosan.core.shapes import State\nfrom .base import Modality"),
        ("guidance/a.py", "from kuosan.training import ema\nfrom ..denoisers.base import Denoiser"),
        ("core/a.py", "import torch\ng = torch.Generator().manual_seed(0)\ntorch.randn(3, generator=g)"),
        (
            "core/a.py",
            "import numpy as np\nnp.random.default_rng(0).normal()\nnp.load('x', allow_pickle=False)",
        ),
        ("core/a.py", "import re\nre.compile('a')\nmodel.eval()\nimport random\nrandom.Random(0).random()"),
        ("core/a.py", "def f(w, g):\n    return w.normal_(generator=g)"),
        ("core/a.py", "x = 1\n" * 179),
    ],
)
def test_the_checker_lets_the_innocent_pass(tmp_path: Path, where: str, source: str) -> None:
    assert findings_of(tmp_path, where, source) == []
