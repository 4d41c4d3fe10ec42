"""What every test gets: one thread, no global randomness, and real data where it lies beside the checkout."""

from __future__ import annotations

import os

# Before torch and numpy load: the workers are the parallelism, and OpenMP reads this only once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings

from kuosan.evaluation import plots
from kuosan.recipes import expected, ways

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

PRINTED = plots._printed

torch.set_num_threads(1)

# The same examples each time: a red run is the change's doing. --hypothesis-profile=search looks wider.
settings.register_profile("kuosan", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile("kuosan")


LONGEST = ("tests/docs", "tests/recipes", "tests/cli")  # folders whose tests train models


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that no worker is left with it at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file goes to one worker, so that what its tests share (trained runs, mostly) is made once; the pages of the
    documentation share little, and go to whoever is free. With ``--dist`` of one's own, that."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if nodeid.startswith("tests/docs/test_pages.py") else nodeid.partition("::")[0]

    if config.getvalue("dist") != "load":
        return None
    config.option.loadscopereorder = False  # the order is that of the collection
    return ByFile(config, log)


def global_rng_state() -> str:
    """A digest of both global generators that code may draw from by accident."""
    digest = hashlib.blake2b(torch.get_rng_state().numpy().tobytes(), digest_size=16)
    _, words, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002 (it only reads)
    digest.update(words.tobytes())
    digest.update(repr((position, has_gauss, gauss)).encode())
    return digest.hexdigest()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a test measures of this machine, while others run beside it, is nobody's later choice."""
    os.environ["KUOSAN_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def _brief_trials() -> Iterator[None]:
    """Budgets of minutes are asked for in many tests, and what is tried for their sake takes seconds of each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ways, "MOST", 1.0)
        patch.setattr(expected, "PROBE", 1.0)
        patch.setattr(expected, "FEWEST", 3)
        patch.setitem(ways.COMPILE_FROM, "cpu", 1e6)
        yield


@pytest.fixture(autouse=True)
def _no_global_randomness(request: pytest.FixtureRequest) -> Iterator[None]:
    """Law: nothing draws from a global generator, so nothing depends on what ran before it.

    A test that calls code of others which does (diffusers building a network, say) says so:
    `@pytest.mark.foreign_rng("diffusers initialises its own weights")`.
    """
    before = global_rng_state()
    yield
    mark = request.node.get_closest_marker("foreign_rng")
    if mark is not None:
        assert mark.args and str(mark.args[0]).strip(), "foreign_rng needs its reason"
        return
    assert global_rng_state() == before, (
        "this test drew from the global random state of torch or numpy; "
        "pass a generator, or say why not with @pytest.mark.foreign_rng(reason)"
    )


@pytest.fixture(scope="session", autouse=True)
def _short_ends() -> Iterator[None]:
    """Runs of a few steps are measured as briefly: by the same code, on fewer samples, pairs and items."""
    from kuosan.adapt import tune as fitting
    from kuosan.adapt.candidates import Search
    from kuosan.evaluation import encoder_training
    from kuosan.evaluation.likelihood import Effort
    from kuosan.recipes import average, evaluate, expected, finish, music_heat, music_revise, sequences, tune

    brief = Effort(
        n=32, train=8, steps=(4,), step_items=8, flow=0, fitted=64, planned=8, count=4, levels=6, cells=16
    )
    glance, whole = Search(("deis",), few=2, some=4, shortlist=2, looks=False), Effort.of

    def of(n: int, *options: Any) -> Effort:
        return replace(whole(n, *options), fitted=64, planned=8, levels=6, cells=16)

    printed: dict[str, str] = {}

    def once(canvas: Any, name: str) -> str:
        if name not in printed:
            printed[name] = PRINTED(canvas, name)
        return printed[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "_printed", once)  # half of a short run's time; charts are painted all the same
        patch.setattr(finish, "MOST", 128)
        patch.setattr(finish, "MEASURING", 2.0)
        patch.setattr(evaluate, "MEASURING", 2.0)
        patch.setattr(encoder_training, "FEWEST_STEPS", 6)
        patch.setattr(average, "LENGTHS", average.LENGTHS[:3])
        patch.setattr(finish, "LONGEST", 0.0)  # sections that have tests of their own
        patch.setattr(music_heat, "WINDOWS", 4)
        patch.setattr(music_revise, "STEPS", 8)
        patch.setattr(sequences, "FEW", 4)
        patch.setattr(sequences, "SOME", 4)
        patch.setattr(sequences, "QUICK", glance)
        patch.setattr(sequences, "teacher_calls", lambda steps: max(16, 2 * steps))
        patch.setattr(tune, "QUICK", glance)
        patch.setattr(fitting, "QUICK", glance)
        patch.setattr(expected, "PROBE", 0.0)
        patch.setattr(Effort, "short", lambda: brief)
        patch.setattr(Effort, "of", of)
        yield


@pytest.fixture
def every_chart(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that read what is in a chart: each is printed, as outside of tests."""
    monkeypatch.setattr(plots, "_printed", PRINTED)


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """`shared_data("mnist")` is the path of that real data set; the test is skipped where it is absent."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"real data set {name!r} is not at ../shared/data beside this checkout")
        return path

    return find
