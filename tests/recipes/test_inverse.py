"""A run both ways: items come back, noise is noise, and a way has its two ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

import kuosan
from kuosan.core.random import Seeds
from kuosan.core.schedules import EDM, Cosine
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.errors import UserError
from kuosan.modalities import load as load_data
from kuosan.processes.gaussian import GaussianProcess
from kuosan.recipes.inverse import Items, Noise, between, common, one_item, read_items, read_noise, way
from kuosan.recipes.returned import errors, normality, pairs, sentence
from kuosan.recipes.run import Samples
from tests.recipes import small


def test_items_come_back_to_the_last_bit(run: kuosan.Run, data: Path) -> None:
    items = read_items(run, data)
    assert len(items) == run.facts.items + len(load_data(data).val)
    for steps in (8, 20):
        noise = run.encode(data, steps=steps)
        assert noise.names == items.names and torch.equal(noise.cond["class"], items.cond["class"])
        back = run.decode(noise)
        found = errors(items, noise, back)
        assert found["return_rms"]["value"] < 0.05 and found["identical"]["value"] == 1
    folders = [run.facts.columns["class"].index(Path(name).parent.name) for name in items.names]
    assert items.cond["class"].tolist() == folders


def test_with_guidance_too(run: kuosan.Run, data: Path) -> None:
    plain, guided = run.encode(data, 5), run.encode(data, 5, w=2.0)
    items = read_items(run, data, 5)
    assert float((plain.z - guided.z).abs().max()) > 1e-3
    assert errors(items, guided, run.decode(guided))["return_rms"]["value"] < 0.05


def test_an_item_comes_back_the_same_in_any_company(run: kuosan.Run, data: Path) -> None:
    noise = run.encode(data, steps=8)
    whole = run.decode(noise).x
    assert float((run.decode(noise[7:9]).x - whole[7:9]).abs().max()) < 1e-4
    states = read_items(run, data).x[7:8]
    index = run.facts.columns["class"][int(noise.cond["class"][7])]
    alone = run.encode(states, steps=8, where={"class": index})
    assert torch.equal(alone.cond["class"], noise.cond["class"][7:8])
    assert float((alone.z - noise.z[7:8]).abs().max()) < 0.02  # noise of σ/α = 0.0005 magnifies rounding


def test_the_seeds_own_noise_gives_the_seeds_samples(run: kuosan.Run) -> None:
    """``sample(noise=…)`` is ``sample`` with nothing but its start given."""
    seeds = Seeds.of(4, 20)
    z = seeds.fold("prior").normal(torch.empty(20, *run.shape))
    given = Noise(z, run.conditions(4, range(20)), steps=0)
    for more in ({}, {"exact": True}, {"where": {"class": "wide"}}):
        wanted = run.sample(9, steps=3, seed=4, first=6, **more)
        got = run.sample(9, steps=3, seed=4, first=6, noise=given, **more)
        assert torch.allclose(got.x, wanted.x, atol=1e-5) and got.first == 6
        assert torch.equal(got.cond["class"], wanted.cond["class"])
    with pytest.raises(UserError, match="20 samples"):
        run.sample(9, first=12, noise=given)


def test_any_solver_takes_the_noise_near_its_items(run: kuosan.Run, data: Path) -> None:
    """The same flow by another method and grid: closer with more steps."""
    items, noise = read_items(run, data, 6), run.encode(data, 6, steps=40)

    def miss(steps: int) -> float:
        x = run.sample(6, noise=noise, steps=steps, solver="unipc3", grid="logsnr").x
        return float((x - items.x).square().mean().sqrt())

    assert miss(80) < 0.02 and miss(80) < miss(8)


def test_the_two_ends_of_the_way() -> None:
    for schedule in (Cosine(), EDM()):
        times = way(schedule, 7)
        rho = schedule.sigma(times) / schedule.alpha(times)
        assert len(times) == 8 and bool((times[1:] < times[:-1]).all())
        assert float(rho[0]) == pytest.approx(80) and 4.9e-4 < float(rho[-1]) < 2.1e-3
        steps = schedule.log_snr(times).diff()
        assert torch.allclose(steps, steps[:1].expand(7), rtol=1e-6)


def test_noise_is_kept_in_a_file(run: kuosan.Run, data: Path, tmp_path: Path) -> None:
    noise = run.encode(data, 4, steps=6, w=1.5)
    noise.save(tmp_path / "noise.safetensors")
    again = read_noise(run, tmp_path / "noise.safetensors")
    assert torch.equal(again.z, noise.z) and torch.equal(again.cond["class"], noise.cond["class"])
    assert (again.names, again.steps, again.w) == (noise.names, 6, 1.5)
    bare = tmp_path / "bare.safetensors"
    safetensors.torch.save_file({"noise": noise.z.half()}, bare)
    found = read_noise(run, bare)
    assert found.steps == 0 and found.cond["class"].tolist() == [3] * 4 and found.z.dtype == torch.float32


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"x": torch.zeros(2, 1, 8, 8)}, "no tensor named noise"),
        ({"noise": torch.zeros(2, 1, 8, 9)}, r"shape \(n, 1, 8, 8\)"),
        ({"noise": torch.zeros(0, 1, 8, 8)}, r"shape \(n, 1, 8, 8\)"),
        ({"noise": torch.zeros(2, 1, 8, 8, dtype=torch.int32)}, "floating point"),
        ({"noise": torch.full((2, 1, 8, 8), torch.nan)}, "not finite"),
        ({"noise": torch.zeros(2, 1, 8, 8), "condition.class": torch.tensor([0, 4])}, "condition class"),
        ({"noise": torch.zeros(2, 1, 8, 8), "condition.class": torch.tensor([0])}, "condition class"),
        (None, "damaged"),
    ],
)  # fmt: skip
def test_noise_that_does_not_fit_is_told_in_a_sentence(
    run: kuosan.Run, tmp_path: Path, tensors: dict[str, torch.Tensor] | None, words: str
) -> None:
    path = tmp_path / "n.safetensors"
    path.write_bytes(b"\x08" * 40)
    if tensors is not None:
        safetensors.torch.save_file(tensors, path)
    with pytest.raises(UserError, match=words) as told:
        read_noise(run, path)
    assert "\n" not in str(told.value) and str(path) in str(told.value)


def test_a_way_begins_and_ends_with_the_items_themselves(run: kuosan.Run, data: Path) -> None:
    a, b = data / "flat" / "00.png", data / "steep" / "03.png"
    samples = run.interpolate(a, b, 5)
    for end, path in ((0, a), (-1, b)):
        state = one_item(run, path, None).x[0]
        assert float((samples.x[end] - state).abs().max()) < 0.5 / 127.5
    middle = samples.x[2]
    assert all(float((middle - samples.x[i]).square().mean()) > 1e-3 for i in (0, -1))
    back = run.interpolate(b, a, 5)
    assert torch.allclose(samples.x.flip(0), back.x, atol=2e-3)


def test_conditions_on_the_way(run: kuosan.Run, data: Path) -> None:
    items = read_items(run, data)
    classes = items.cond["class"]
    first, other = 0, int((classes != classes[0]).nonzero()[0])
    one, two = ({"class": classes[i : i + 1]} for i in (first, other))
    assert torch.equal(common(run, one, one)["class"], one["class"])
    assert common(run, one, two)["class"].item() == run.facts.null["class"]
    a, b = items.x[first : first + 1], items.x[other : other + 1]
    assert run.interpolate(a, b, 3).cond["class"].tolist() == [3, 3, 3]
    assert (
        run.interpolate(a, b, 3, where={"class": "wide"}).cond["class"].tolist()
        == [run.facts.columns["class"].index("wide")] * 3
    )


def test_the_way_between_noises_keeps_their_size(run: kuosan.Run) -> None:
    z = Seeds.of(0, 2).normal(torch.empty(2, *run.shape))
    noise = between(Noise(z, {"class": torch.tensor([1, 1])}, ("a", "b")), 6)
    assert torch.equal(noise.z[0], z[0]) and torch.equal(noise.z[-1], z[1])
    assert len(noise) == len(noise.names) == len(noise.cond["class"]) == 6
    sizes = noise.z.flatten(1).norm(dim=1)
    assert torch.allclose(sizes, torch.lerp(sizes[0], sizes[-1], torch.linspace(0, 1, 6)), rtol=1e-5)


def test_what_is_no_end_is_told(run: kuosan.Run, data: Path) -> None:
    one = data / "flat" / "00.png"
    for call, words in [
        (lambda: run.interpolate(data, one), f"{sum(small.COUNTS.values())} items"),
        (lambda: run.interpolate(one, one, 1), "-n 1"),
        (lambda: run.interpolate(one, torch.zeros(1, 1, 9, 8)), r"\(n, 1, 8, 8\)"),
        (lambda: run.encode(data, where={"class": "steap"}), "steep"),
    ]:
        with pytest.raises(UserError, match=words):
            call()


def test_errors_are_in_the_datas_own_unit(run: kuosan.Run) -> None:
    """By hand: items off by 0.4 and by 0.6 grey levels, the second of which rounds to another file."""
    levels = torch.full((2, 1, 8, 8), 100.0)
    items = Items(levels / 127.5 - 1, {}, ("a", "b"))
    off = torch.tensor([0.4, 0.6]).reshape(2, 1, 1, 1)
    z = torch.ones(2, 1, 8, 8) * torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1)
    found = errors(items, Noise(z, {}), Samples((levels + off) / 127.5 - 1, {}, 0, run.modality))
    rms = found["return_rms"]
    assert rms["value"] == pytest.approx(math.sqrt((0.16 + 0.36) / 2), rel=1e-4) and rms["n"] == 2
    # the mean square is 0.26 ± 0.1, and d√m = dm/(2 √m)
    assert rms["stderr"] == pytest.approx(0.1 / (2 * math.sqrt(0.26)), rel=1e-3)
    assert found["identical"]["value"] == 0.5 and "of 255 levels" in sentence(found)
    assert found["noise_mean"]["value"] == 2 and found["noise_variance"]["value"] == 1
    assert found["noise_norm"]["value"] == 16 and found["noise_norm"]["spread"] == 8
    assert "1 of 2" in sentence(found) and "norms are 16" in normality(found)
    draws = Seeds.of(0, 4000).normal(torch.empty(4000, 64)).norm(dim=1)
    assert found["noise_norm"]["floor"] == pytest.approx(float(draws.mean()), abs=0.05)
    assert found["noise_norm"]["floor_spread"] == pytest.approx(float(draws.std()), abs=0.04)


def test_the_sheet_has_each_item_above_its_own(run: kuosan.Run) -> None:
    x = torch.linspace(-1, 1, 5).reshape(5, 1, 1, 1).expand(5, 1, 8, 8).contiguous()
    items = Items(x, {}, tuple("abcde"))
    sheet = pairs(items, Samples(x, {}, 0, run.modality), columns=2)
    row = run.modality.show(run.modality.decode(x[:1]), 1).height - 2
    assert sheet.height == 2 * (2 * row + 2) + 10  # two pairs of rows; the odd item is left out
    for top in (row // 2, 2 * row + 12 + row // 2):
        for left in (row // 2, row + row // 2):
            assert sheet.getpixel((left, top)) == sheet.getpixel((left, top + row))


def test_on_an_exploding_schedule_noise_is_in_units_of_the_prior(
    copied: Callable[[], kuosan.Run], data: Path
) -> None:
    run = copied()
    run.__dict__["model"] = NetworkDenoiser(GaussianProcess(EDM()), run.denoiser.network, "edm")
    noise, items = run.encode(data, 12), read_items(run, data, 12)
    assert 0.2 < float(noise.z.std()) < 3  # the state there is 80 times as large
    assert errors(items, noise, run.decode(noise))["return_rms"]["value"] < 0.1
    z = Seeds.of(0, 3).fold("prior").normal(torch.empty(3, *run.shape))
    same = run.sample(3, steps=3, noise=Noise(z, run.conditions(0, range(3)), steps=0))
    assert torch.allclose(same.x, run.sample(3, steps=3).x, atol=1e-5)
