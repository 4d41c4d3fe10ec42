"""Measurements of music with answers that are known beforehand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from kuosan.core.curves import survival
from kuosan.denoisers.tokens import TokenDenoiser
from kuosan.evaluation.music import HISTOGRAMS, Bars, Overlap, evaluate_music, faults, music_baselines
from kuosan.evaluation.music.bound import piece_nats, windows_of_piece
from kuosan.evaluation.music.copying import nearest_windows
from kuosan.evaluation.music.evaluate import Windows
from kuosan.evaluation.music.faults import fault_places
from kuosan.evaluation.music.statistics import STATISTICS, density, groove, pitch_range
from kuosan.processes.discrete import Masked


def bars_of(*voices: list[int], bar: int = 4, repeats: int = 1) -> Bars:
    """One pitch per step and voice; a pitch that follows itself is held."""
    pitch = torch.tensor(voices).T[None].repeat(repeats, 1, 1)
    before = torch.cat([torch.full_like(pitch[:, :1], -2), pitch[:, :-1]], 1)
    onset = (pitch >= 0) & (pitch != before)
    return Bars(
        pitch, onset, torch.ones(pitch.shape[:2], dtype=torch.bool), torch.full((repeats,), bar),
        tuple(range(len(voices))), tuple((0, 127) for _ in voices),
    )  # fmt: skip


def counted(bars: Bars) -> dict[str, float]:
    return {name: float(found[0]) for name, found in faults(bars).items()}


def test_a_constructed_parallel_is_found_and_nothing_else() -> None:
    assert counted(bars_of([67, 69], [60, 62]))["parallel_fifths"] == 1
    assert counted(bars_of([79, 81], [60, 62]))["parallel_fifths"] == 1  # a twelfth is a fifth
    assert counted(bars_of([72, 74], [60, 62]))["parallel_octaves"] == 1
    for upper, lower in (
        ([67, 67], [60, 60]),  # held
        ([67, 69], [60, 60]),  # one voice moves
        ([67, 69], [60, 50]),  # contrary, and no fifth
        ([67, 57], [60, 62]),  # contrary
        ([67, 69], [60, 65]),  # a fifth goes to a third
        ([67, -1], [60, 62]),  # one voice rests
    ):
        found = counted(bars_of(upper, lower))
        assert found["parallel_fifths"] == found["parallel_octaves"] == 0, (upper, lower)


def test_crossings_are_counted_once_and_ranges_by_notes() -> None:
    bars = bars_of([60, 60, 72, 72], [64, 64, 64, 48])
    assert counted(bars) == {"parallel_fifths": 0, "parallel_octaves": 0, "crossings": 1, "out_of_range": 0}
    assert counted(replace(bars, ranges=((60, 70), (50, 64))))["out_of_range"] == 2


def test_faults_are_where_their_notes_are() -> None:
    places = fault_places(bars_of([67, 67, 69, 71], [60, 60, 62, 48]))[0]
    assert places.tolist() == [[False] * 2, [True] * 2, [True] * 2, [False] * 2]  # of a parallel both chords
    crossed = fault_places(bars_of([60, 60, 72], [55, 64, 64]))[0]
    assert crossed.tolist() == [[False] * 2, [True] * 2, [False] * 2]
    high = replace(bars_of([60, 72, 72, 60], [40, 40, 40, 40]), ranges=((50, 70), (30, 50)))
    assert fault_places(high)[0].nonzero().tolist() == [[1, 0]]
    generator = torch.Generator().manual_seed(1)
    many = bars_of(*torch.randint(48, 80, (4, 64), generator=generator).tolist())
    silent = replace(many, pitch=torch.where(fault_places(many), -1, many.pitch), ranges=((-1, 127),) * 4)
    assert sum(counted(many).values()) > 10 and sum(counted(silent).values()) == 0


def test_voices_of_one_part_are_no_counterpoint() -> None:
    chord = replace(bars_of([67, 69], [60, 62], [40, 41]), part=(0, 0, 1))
    assert counted(chord)["parallel_fifths"] == 0
    assert counted(replace(chord, part=(0, 0, 0)))["parallel_fifths"] == 1


def test_faults_are_the_same_in_every_key() -> None:
    generator = torch.Generator().manual_seed(0)
    bars = bars_of(*torch.randint(48, 80, (4, 64), generator=generator).tolist())
    up = replace(bars, pitch=bars.pitch + 5)
    assert counted(bars) == counted(up)
    assert counted(bars)["parallel_fifths"] > 0


def test_a_histogram_overlaps_itself_wholly_and_what_it_shares_nothing_with_not_at_all() -> None:
    a = torch.tensor([[3.0, 1, 0, 0], [1, 1, 0, 0]])
    b = torch.tensor([[0.0, 0, 5, 1]])
    overlap = Overlap()
    assert overlap.value(a, a) == pytest.approx(1.0)
    assert overlap.value(a, 7 * a) == pytest.approx(1.0)  # how much there is does not matter
    assert overlap.value(a, b) == 0.0
    half = torch.tensor([[1.0, 1, 1, 1]])
    assert overlap.value(half, torch.tensor([[1.0, 1, 0, 0]])) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="nothing to count"):
        overlap.value(a, torch.zeros(1, 4))


def test_the_error_of_an_overlap_covers_its_spread() -> None:
    generator = torch.Generator().manual_seed(0)
    p = torch.tensor([0.4, 0.3, 0.2, 0.1])

    def draw() -> Tensor:
        drawn = torch.multinomial(p, 40 * 30, True, generator=generator).view(40, 30)
        return torch.nn.functional.one_hot(drawn, 4).sum(1).double()

    found = [
        Overlap().estimate(draw(), torch.tensor([[0.1, 0.2, 0.3, 0.4]]).repeat(40, 1)) for _ in range(60)
    ]
    spread = torch.tensor([e.value for e in found]).std()
    mean = sum(e.stderr or 0.0 for e in found) / len(found)
    assert mean == pytest.approx(float(spread), rel=0.35)


def test_histograms_count_what_they_say() -> None:
    bars = bars_of([60, 60, 62, 59], [72, -1, -1, 74])
    classes = HISTOGRAMS["pitch_class_overlap"](bars)[0]
    assert classes.tolist() == [3, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    leaps = HISTOGRAMS["interval_overlap"](bars)[0]
    assert {k - 12: int(n) for k, n in enumerate(leaps) if n} == {2: 2, -3: 1}
    assert HISTOGRAMS["duration_overlap"](bars)[0].tolist() == [4, 1, 0, 0]
    assert HISTOGRAMS["onset_overlap"](bars)[0].tolist() == [2, 0, 1, 2]


def test_groove_density_and_range_of_known_bars() -> None:
    same = bars_of([60, 60, 62, 62] * 2)
    assert [float(v[0]) for v in groove(same)] == [4, 4]
    other = bars_of([60, 60, 62, 62, 64, 65, 65, 67])  # onsets 1 0 1 0 and 1 1 0 1
    assert [float(v[0]) for v in groove(other)] == [1, 4]
    assert [float(v[0]) for v in density(same)] == [4, 2]
    assert [float(v[0]) for v in pitch_range(bars_of([60, 72], [-1, -1]))] == [12, 1]


def test_a_copy_in_another_key_is_a_copy() -> None:
    generator = torch.Generator().manual_seed(0)
    training = torch.randint(20, 60, (30, 24), generator=generator)
    x = torch.stack([training[7], training[9] + 2 * 5, training[3] - 2 * 4])
    where, distance = nearest_windows(x, training, 2)
    assert (where.tolist(), distance.tolist()) == ([7, 9, 3], [0, 0, 0])
    _, plain = nearest_windows(x, training, 2, range(1))
    assert plain[0] == 0
    assert float(plain[1:].min()) > 0.5
    changed = x[:1].clone()
    changed[0, :6] = 1
    assert float(nearest_windows(changed, training, 2)[1]) == 0.25


def test_counting_finds_the_entropy_of_what_it_is_shown() -> None:
    """Tokens that are drawn anew at every beat and held between: 2 bits every fourth step."""
    generator = torch.Generator().manual_seed(0)

    def piece() -> tuple[Tensor, int]:
        drawn = torch.randint(4, (50, 2), generator=generator)
        return drawn.repeat_interleave(4, 0), 4

    train, test = [piece() for _ in range(200)], [piece() for _ in range(50)]
    found = music_baselines(train, test, 4)
    assert found["voice_unigram"] == pytest.approx(2.0, abs=0.01)
    assert found["voice_bigram_beat"] == pytest.approx(0.5, abs=0.02)
    # without the beat: a step differs with 3/16 from the one before
    stay = 1 - 3 / 16
    expected = -(stay * math.log2(stay) + 3 / 16 * math.log2(1 / 16))
    assert found["voice_bigram"] == pytest.approx(expected, abs=0.03)


def windows(n: int, seed: int, low: int = 48) -> Windows:
    generator = torch.Generator().manual_seed(seed)
    pitch = torch.randint(low, low + 24, (n, 16, 2), generator=generator).repeat_interleave(2, 1)
    before = torch.cat([torch.full_like(pitch[:, :1], -2), pitch[:, :-1]], 1)
    bars = Bars(
        pitch,
        pitch != before,
        torch.ones(n, 32, dtype=torch.bool),
        torch.full((n,), 8),
        (0, 1),
        ((48, 71), (48, 71)),
    )
    tokens = (2 + 2 * (pitch - 40) + (pitch == before).long()).flatten(1)
    return Windows(bars, tokens, torch.rand(n, generator=generator) < 0.5)


def test_music_of_the_datas_law_scores_as_real_music_and_other_music_does_not() -> None:
    train, val = windows(300, 0), windows(80, 1)
    fair = evaluate_music(windows(80, 2), train, val, notes=2)
    for name, m in fair.metrics.items():
        assert m.sigmas is None or abs(m.sigmas) < 4.5, name
        assert m.n == 80
    assert not fair.left_out
    copied = evaluate_music(train[torch.arange(80)], train, val, notes=2)
    assert copied.metrics["copies"].value == 1.0
    high = evaluate_music(windows(80, 3, low=60), train, val, notes=2)
    assert high.metrics["out_of_range_per_bar"].value > 1
    assert high.metrics["faults_per_bar"].value > fair.metrics["faults_per_bar"].value
    assert {s.name for s in STATISTICS} <= set(fair.metrics)


def test_without_held_out_music_what_can_be_measured_is() -> None:
    train = windows(100, 0)
    found = evaluate_music(windows(20, 1), train, windows(4, 2)[torch.arange(0)], notes=2)
    assert found.metrics["interval_overlap"].floor is not None
    assert {"copies", "key_accuracy"} <= set(found.left_out)


def test_every_step_of_a_piece_is_new_once_and_windows_begin_with_cycles() -> None:
    for length, steps, cycle in ((48, 16, 4), (36, 16, 6), (12, 16, 4), (60, 20, 3)):
        rows = torch.arange(length * 2).view(length, 2)
        x, new = windows_of_piece(rows, steps, cycle, -1)
        told = x[new]
        assert sorted(told[told >= 0].tolist()) == list(range(length * 2))
        assert all(int(first) % (2 * cycle) == 0 for first in x[:, 0])


def test_the_bound_of_a_model_that_knows_nothing_is_one_guess_per_token() -> None:
    class Nothing(nn.Module):
        def forward(self, x: Tensor, t: Tensor, clean: Tensor | None, only: Tensor, **cond: Tensor) -> Tensor:
            return torch.zeros(int(only.sum()), 5)

    denoiser = TokenDenoiser(Masked(5, survival("linear")), Nothing())
    pieces = [(torch.zeros(32, 2, dtype=torch.int64), 4), (torch.zeros(80, 2, dtype=torch.int64), 4)]
    nats = piece_nats(denoiser, pieces, {}, steps=16, end=1, times=64)
    for found, (rows, _) in zip(nats.tolist(), pieces, strict=True):
        assert found == pytest.approx(rows.numel() * math.log(5), rel=0.05)
