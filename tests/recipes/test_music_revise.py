"""Voice leading revised: fewer faults, nothing else touched, the same for every sample whatever is beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import kuosan
from kuosan.cli import main
from kuosan.errors import UserError
from kuosan.evaluation.music.faults import fault_places
from kuosan.modalities import Note, Part, Score
from kuosan.recipes.music_measure import music_of, windows_of
from kuosan.recipes.music_revise import ALLOWED, Passages, count, ended
from kuosan.recipes.music_rules import MusicWishes, rules_of_music
from tests.recipes.test_music_run import SMALL, tune

__all__ = ["run"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> kuosan.Run:
    """Trained for hardly any time, so that it makes faults; on music that makes few. To be read only."""
    from kuosan.modalities.music_files import write_score

    folder = tmp_path_factory.mktemp("music") / "tunes"
    folder.mkdir()
    for i in range(40):
        write_score(tune(i, (4, 4)), folder / f"{i:02d}.mid")
    out = tmp_path_factory.mktemp("runs") / "music"
    return kuosan.train(folder, out=out, budget="60steps", **SMALL)


def counted(run: kuosan.Run, samples: kuosan.Samples) -> torch.Tensor:
    return count(windows_of(run, samples.x, samples.cond).bars)


def test_revision_never_adds_a_fault_and_takes_most_of_them(run: kuosan.Run) -> None:
    free, strict = (run.revised(faults).sample(96, seed=1) for faults in ("any", 0))
    before, after = counted(run, free), counted(run, strict)
    assert (after <= before).all()
    assert before.sum() > 32 and after.sum() < 0.25 * before.sum()
    clean = before == 0
    assert torch.equal(free.x[clean], strict.x[clean])


def test_music_keeps_the_faults_that_its_training_has(run: kuosan.Run, tmp_path: Path) -> None:
    kept = json.loads((run.path / ALLOWED).read_text())["faults_per_bar"]
    assert run.allowed == tuple(sorted(kept)) and len(kept) > 50
    other = tmp_path / "other"
    shutil.copytree(run.path, other)
    (other / ALLOWED).write_text(json.dumps({"faults_per_bar": [1e6]}))  # whatever is written stands
    loaded = kuosan.load(other)
    assert torch.equal(loaded.sample(8, seed=2).x, run.revised("any").sample(8, seed=2).x)
    (other / ALLOWED).write_text("{")
    with pytest.raises(UserError, match="holds no faults per bar"):
        kuosan.load(other).sample(1)
    (other / ALLOWED).unlink()
    assert kuosan.load(other).allowed is None


def test_whole_notes_of_faults_are_written_anew_and_nothing_else(run: kuosan.Run) -> None:
    samples = run.revised("any").sample(16, seed=3)
    passages = Passages(run, samples.x, torch.ones_like(samples.x, dtype=torch.bool), samples.cond)
    masked = (passages.masked() == music_of(run).form.size).view(16, -1, music_of(run).form.lanes)
    bars = passages.bars()
    places = fault_places(bars)
    assert masked[places].all() and not masked[~places.any(1).any(1)].any()
    # A note is masked from its beginning to its end: where the mask changes, a note begins or ends.
    edge = masked[:, 1:] != masked[:, :-1]
    sounds = bars.pitch >= 0
    assert (bars.onset[:, 1:] | (sounds[:, 1:] != sounds[:, :-1]))[edge].all()


def test_given_voices_stay_although_they_are_at_fault(run: kuosan.Run) -> None:
    melody = Part(tuple(Note(float(k), 1.0, 60 + k % 5) for k in range(16)), "High")
    rules = rules_of_music(run, MusicWishes(given=Score((melody,), (4, 4)), voices=("High",)))
    free, strict = (run.revised(faults).sample(8, seed=4, rules=rules) for faults in ("any", 0))
    lanes = music_of(run).form.lanes
    assert torch.equal(free.x.view(8, -1, lanes)[..., 0], strict.x.view(8, -1, lanes)[..., 0])
    assert (counted(run, strict) <= counted(run, free)).all()


def test_the_same_seed_is_the_same_piece_whatever_is_beside_it(run: kuosan.Run) -> None:
    strict = run.revised(0)
    assert torch.equal(strict.sample(8, seed=5).x[5:], strict.sample(3, seed=5, first=5).x)


def test_what_cannot_be_asked_is_said(
    run: kuosan.Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for faults in ("none", "-1", "nan"):
        assert (
            main(["sample", str(run.path), "-n", "1", "--faults", faults, "--out", str(tmp_path / "x")]) == 2
        )
        assert "is no number of faults per bar: give one from 0, or any" in capsys.readouterr().err
    assert main(["sample", str(run.path), "-n", "2", "--faults", "0.5", "--out", str(tmp_path / "y")]) == 0
    assert run.revised(0.5).sampler()["faults"] == 0.5


def test_after_the_end_there_is_nothing_but_what_was_given() -> None:
    """Four pieces of five steps of two voices: one that goes on after its end, one whose later note was given, one that
    ends before it began, one in which a single voice has ended."""
    begun = torch.tensor([[5, 7], [1, 1], [5, 1], [1, 7], [0, 0]])
    late, lone = begun.roll(-1, 0), torch.tensor([[5, 7], [1, 7], [5, 7], [5, 1], [5, 1]])
    x = torch.stack([begun, begun, late, lone]).flatten(1)
    free = torch.ones_like(x, dtype=torch.bool)
    free[1, 4] = False
    first, *others = ended(x, free, 2)
    assert first.view(5, 2).tolist() == [[5, 7], [1, 1], [1, 1], [1, 1], [1, 1]]
    assert torch.equal(torch.stack(others), x[1:])
