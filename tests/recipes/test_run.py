"""Sampling a run: the same seed is the same sample, alone or in company, and conditions mean what they say."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import kuosan
from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.recipes.run import CHUNK, EXACT_CHUNK
from tests.recipes import small


def test_a_sample_is_the_same_alone_and_in_any_batch(run: kuosan.Run) -> None:
    whole = run.sample(CHUNK + 6, steps=4, seed=3)
    assert float(whole.x.std()) > 0.05  # and they differ from each other
    assert len({x.numpy().tobytes() for x in whole.x}) == CHUNK + 6
    for first, n in [(0, 1), (17, 1), (CHUNK + 5, 1), (0, 35), (35, 35), (5, CHUNK)]:
        part = run.sample(n, steps=4, seed=3, first=first)
        assert part.first == first
        assert float((part.x - whole.x[first : first + n]).abs().max()) < 1e-5
        assert all(torch.equal(part.cond[k], whole.cond[k][first : first + n]) for k in whole.cond)


def test_with_exact_a_sample_has_the_same_bits_in_any_batch(run: kuosan.Run) -> None:
    whole = run.sample(70, steps=4, seed=3, exact=True)
    close = run.sample(70, steps=4, seed=3)
    assert float((whole.x - close.x).abs().max()) < 1e-5
    chunk = EXACT_CHUNK
    for first, n in [
        (0, 1),
        (chunk - 1, 1),
        (chunk, 1),
        (chunk - 1, 2),
        (3, 2 * chunk),
        (69, 1),
        (0, 64),
        (33, 30),
    ]:
        part = run.sample(n, steps=4, seed=3, first=first, exact=True)
        assert torch.equal(part.x, whole.x[first : first + n])


def test_guidance_keeps_both_promises(run: kuosan.Run) -> None:
    one = run.sample(1, steps=3, first=20, w=2.5, exact=True)
    assert torch.equal(one.x[0], run.sample(40, steps=3, w=2.5, exact=True).x[20])
    assert float((run.sample(40, steps=3, w=2.5).x[20] - one.x[0]).abs().max()) < 1e-5


def test_another_seed_is_another_sample(run: kuosan.Run) -> None:
    samples = [run.sample(4, steps=3, seed=seed).x for seed in (0, 1, -1, 2**40)]
    for i, one in enumerate(samples):
        for other in samples[i + 1 :]:
            assert float((one - other).abs().max()) > 0.1


@pytest.mark.parametrize("name", small.CLASSES)
def test_where_fixes_the_class(run: kuosan.Run, name: str) -> None:
    index = run.facts.columns["class"].index(name)
    samples = run.sample(5, steps=2, where={"class": name})
    assert samples.cond["class"].tolist() == [index] * 5
    # The same seeds with another class are other samples, by no more than the class.
    assert torch.equal(samples.x, run.sample(5, steps=2, where={"class": name.upper()}).x)


def test_without_where_classes_come_as_often_as_in_training(run: kuosan.Run) -> None:
    n = 4000
    drawn = Counter(run.conditions(5, range(70, 70 + n))["class"].tolist())
    wanted = {row[0]: count for row, count in run.facts.frequencies}
    total = sum(wanted.values())
    assert total == run.facts.items
    for index, count in wanted.items():
        p = count / total
        assert drawn[index] == pytest.approx(n * p, abs=4)  # chance alone would miss by 30
    first, second = (run.conditions(seed, range(12))["class"] for seed in (0, 1))
    assert not torch.equal(first, second)


def test_a_wrong_wish_is_told_in_a_sentence(run: kuosan.Run) -> None:
    for wish, words in [
        ({"where": {"class": "steap"}}, "steep"),
        ({"where": {"colour": "red"}}, "class"),
        ({"solver": "uler"}, "euler"),
        ({"grid": "karas"}, "karras"),
        ({"n": 0}, "-n"),
        ({"first": -1}, "--first"),
    ]:
        with pytest.raises(UserError, match=words) as told:
            run.sample(**{"n": 2, "steps": 2, **wish})  # type: ignore[arg-type]
        assert "\n" not in str(told.value)


def test_guidance_of_one_is_the_plain_model_and_more_moves_away_from_no_condition(run: kuosan.Run) -> None:
    assert run.guided(1.0) is run.denoiser
    seeds = Seeds.of(0, 6)
    x_t, t = seeds.normal(torch.empty(6, *run.shape)), torch.full((6,), 0.6, dtype=torch.float64)
    cond, null = {"class": torch.arange(6) % 3}, {"class": torch.full((6,), 3)}
    with torch.no_grad():
        guided, plain, hidden = (
            m(x_t, t, **c).mean
            for m, c in ((run.guided(3.0), cond), (run.denoiser, cond), (run.denoiser, null))
        )
    assert torch.allclose(guided, hidden + 3 * (plain - hidden), atol=1e-5)
    assert float((plain - hidden).abs().max()) > 1e-4  # the class was learned


def test_what_is_written_is_what_was_sampled(run: kuosan.Run, tmp_path: Path) -> None:
    samples = run.sample(3, steps=2, first=5)
    paths = run.write(samples, tmp_path / "out")
    assert [p.name for p in paths] == ["00005.png", "00006.png", "00007.png"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        *[p.name for p in paths], "overview.png", "samples.safetensors"
    ]  # fmt: skip
    stored = load_file(tmp_path / "out" / "samples.safetensors")
    assert torch.equal(stored["x"], samples.x)
    assert torch.equal(stored["condition.class"], samples.cond["class"])
    for path, x in zip(paths, samples.x, strict=True):
        with Image.open(path) as picture:
            assert picture.size == (8, 8)
            state, _ = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8), x
            assert (
                float((state.reshape(8, 8) / 127.5 - 1 - x[0].clamp(-1, 1)).abs().max()) <= 0.5 / 127.5 + 1e-5
            )


def test_the_weights_that_are_sampled_are_the_chosen_average_of_the_best_step(run: kuosan.Run) -> None:
    from kuosan.recipes.average import basis_at, chosen
    from kuosan.training import checkpoint
    from kuosan.training.averages import TRACKED

    tensors, state = checkpoint.load(run.path / "checkpoints" / "best")
    summary = json.loads((run.path / "summary.json").read_text(encoding="utf-8"))
    assert state["counters"]["step"] == summary["best_step"]
    found = chosen(run.path)
    assert found and found["step"] == summary["best_step"] and found["chosen"] == summary["ema"]
    wanted = basis_at(run.path / "checkpoints" / "best", TRACKED).combined(found["chosen"])
    for name, value in run.denoiser.state_dict().items():
        assert torch.equal(value, wanted[name]) and value.shape == tensors[f"average.{name}"].shape


def test_a_damaged_run_is_told_in_a_sentence(copied: Callable[[], kuosan.Run]) -> None:
    run = copied()
    path = run.path / "model.safetensors"
    good = bytearray(path.read_bytes())
    good[-3] ^= 1
    path.write_bytes(good)
    with pytest.raises(UserError, match="checksum.*kuosan resume"):
        run.sample(1)
    path.unlink()
    with pytest.raises(UserError, match="missing.*kuosan resume"):
        kuosan.load(run.path).sample(1)
    for place, words in ((run.path / "nowhere", "no run"), (run.path / "samples", "no run")):
        with pytest.raises(UserError, match=words):
            kuosan.load(place)


def test_a_measurement_has_its_sample_count_and_is_kept(
    copied: Callable[[], kuosan.Run], data: Path, tmp_path: Path
) -> None:
    run = copied()
    result = run.evaluate(n=40, steps=3, seconds=2.0)
    assert result["about"]["samples"] == 40 and result["about"]["steps"] == 3
    assert result["metrics"]
    for name, m in result["metrics"].items():
        assert m["n"] >= 1 and m["value"] == m["value"], name
        assert "stderr" in m, name
    assert json.loads((run.path / "evaluation.json").read_text(encoding="utf-8")) == json.loads(
        json.dumps(result)
    )
    again = run.evaluate(n=40, steps=3, seconds=2.0)
    assert again["metrics"] == result["metrics"]
    with pytest.raises(UserError, match="--data"):
        run.evaluate(data=tmp_path / "gone")
