"""Clips of a folder: what counts as one, the form they are brought to, windows, sides of the split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.modalities import Clip, Dataset, load
from kuosan.modalities.video_time import evenly, frames_of, resampled, windows
from tests.modalities.video import ball, counted, save


def read(folder: Path, modality: str = "auto", **options: object) -> Dataset:
    return load(folder, modality=modality, options={"video": options})


def states(data: Dataset) -> tuple[torch.Tensor, ...]:
    return tuple(s.batch(torch.arange(len(s)))[0] for s in (data.train, data.val))


def notes(data: Dataset) -> dict[str, str]:
    return {what: f"{value}: {why}" for what, value, why in data.survey.notes}


def test_equation_1_of_resampling() -> None:
    rng = np.random.default_rng(0)
    for rate in (1.0, 3.0, 7.5, 30.0):
        times = np.cumsum(rng.uniform(0.02, 0.4, 12)) + 5
        frames = [(float(t), lambda i=i: i) for i, t in enumerate(times)]
        found = list(resampled(frames, rate, 0.2))  # type: ignore[arg-type]
        wanted, j = [], 0
        while (now := times[0] + j / rate + 0.1 / rate) < times[-1] + 0.2:
            wanted.append(int(np.flatnonzero(times <= now)[-1]))
            j += 1
        assert found == wanted


def test_a_rate_of_its_own_changes_nothing_and_half_of_it_keeps_every_second() -> None:
    pictures = ball(0, 9).pictures()
    for rate in (8.0, 29.97, 23.976):
        jitter = [(round(t, 3), p) for t, p in evenly(pictures, rate)]  # as Matroska rounds
        for kept, every in ((pictures, 1), (pictures[::2], 2), (pictures[::3], 3)):
            found = list(resampled(jitter, rate / every, 1 / rate))
            assert all(a is b for a, b in zip(found, kept, strict=True))


def test_windows_divide_works_and_slide_over_all_of_them() -> None:
    lengths, length = [3, 8, 9, 15, 16, 40, 41], 8
    stream = torch.arange(sum(lengths))[:, None]
    items, counts = windows(stream, lengths, length)
    assert counts == [1, 1, 1, 1, 2, 5, 5]
    assert torch.equal(items.start[1:], items.stop[:-1]) and int(items.stop[-1]) == len(stream)
    offsets: list[int] = []
    for low, start, high in zip(*(getattr(items, k).tolist() for k in ("low", "start", "high")), strict=True):
        offsets += range(low, max(start, high - length) + 1)
    begin, wanted = 0, []
    for n in lengths:
        wanted += range(begin, begin + max(1, n - length + 1))
        begin += n
    assert offsets == wanted  # every offset of every work, once
    held = items.windows(length, None)[0, :, 0].tolist()
    assert held == [0, 1, 2, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("works", [1, 3, 12])
def test_no_view_in_training_shows_a_frame_that_is_held_out(tmp_path: Path, works: int) -> None:
    for work in range(works):
        save(counted(work, 200 // works), tmp_path / f"{work:02d}.apng")
    data = read(tmp_path, length=4)
    train, val = states(data)
    assert len(val) >= 1

    def frames(x: torch.Tensor) -> set[tuple[int, int]]:
        pixels = ((x[:, :2, :, 0, 0] + 1) * 127.5).round().int()
        return {(int(r), int(g)) for r, g in pixels.transpose(1, 2).flatten(0, 1)}

    held = frames(val)
    seen = frames(train)
    for seed in range(20):
        view, _ = data.train.batch(torch.arange(len(data.train)), Seeds.of(seed, len(data.train)))
        seen |= frames(view)
        ends = ((view[:, 1, :, 0, 0] + 1) * 127.5).round().int().diff(dim=1)
        assert (ends == 1).all()  # four frames in a row of one work, and none held
    assert not seen & held
    if works >= 10:  # whole files
        assert not {w for w, _ in seen} & {w for w, _ in held}


def test_everything_is_trained_on(tmp_path: Path) -> None:
    for work in range(2):
        save(counted(work, 11), tmp_path / "train" / f"{work}.apng")
    save(counted(9, 5), tmp_path / "val" / "9.apng")
    data = read(tmp_path, length=4)
    assert [len(s) for s in (data.train, data.val)] == [4, 1]
    seen = set()
    for seed in range(60):
        x, _ = data.train.batch(torch.arange(4), Seeds.of(seed, 4))
        seen |= {
            (int(r), int(g))
            for r, g in ((x[:, :2, :, 0, 0] + 1) * 127.5).round().transpose(1, 2).flatten(0, 1)
        }
    assert seen == {(w, i) for w in range(2) for i in range(11)}


def test_states_are_the_frames(tmp_path: Path) -> None:
    clips = [ball(i, 8) for i in range(12)]
    for i, clip in enumerate(clips):
        save(clip, tmp_path / f"{i:02d}.webp")
    data = read(tmp_path)
    assert data.modality.shape == (3, 8, 16, 16) and data.modality.name == "video"
    train, val = states(data)
    names = [*data.train.names, *data.val.names]
    for name, x in zip(names, torch.cat([train, val]), strict=True):
        frames = torch.from_numpy(clips[int(name[:2])].frames).permute(3, 0, 1, 2)
        assert torch.equal(((x + 1) * 127.5).round(), frames.float())


@pytest.mark.parametrize(
    ("options", "shape", "rate"),
    [
        ({}, (3, 16, 32, 32), 10.0),
        ({"rate": 15.0, "length": "1s"}, (3, 15, 32, 32), 15.0),
        ({"size": (8, 12), "length": "6frames", "rate": 30.0}, (3, 6, 8, 12), 30.0),
        ({"max_side": 16, "rate": 5.0, "length": 4}, (3, 4, 16, 16), 5.0),
    ],
)
def test_the_form_is_chosen_and_can_be_asked_for(
    tmp_path: Path, options: dict[str, object], shape: tuple[int, ...], rate: float
) -> None:
    for i in range(3):
        save(ball(i, 90, 48, rate=30.0), tmp_path / f"{i}.mp4")
    data = read(tmp_path, **options)
    assert data.modality.shape == shape and data.modality.format.rate == rate
    if not options:
        assert "every third frame of 30" in notes(data)["rate"] and "windows" in notes(data)["longer clips"]
    again = load(tmp_path, like=data.modality)
    assert all(torch.equal(a, b) for a, b in zip(states(again), states(data), strict=True))


@pytest.mark.parametrize("option", [{"rate": "fast"}, {"rate": 0}, {"length": "4 miles"}, {"length": "0s"}])
def test_wishes_that_cannot_be_are_told(tmp_path: Path, option: dict[str, object]) -> None:
    save(ball(0), tmp_path / "0.gif")
    with pytest.raises(UserError, match="frame|length"):
        read(tmp_path, **option)
    assert [frames_of(t, 8.0) for t in ("2s", "500ms", "12frames", "12", 3)] == [16, 4, 12, 12, 3]


def test_animations_are_clips_and_stills_are_pictures(tmp_path: Path) -> None:
    for i in range(6):
        save(ball(i), tmp_path / "moving" / f"{i}.gif")
        Image.fromarray(ball(i).frames[0]).save(tmp_path / f"{i}.gif")
    assert read(tmp_path / "moving").modality.name == "video"
    data = read(tmp_path)  # half of them: no majority
    assert data.modality.name == "image" and data.survey.items == 12
    for i in range(6, 9):
        save(ball(i), tmp_path / "moving" / f"{i}.webp")
    with pytest.raises(UserError, match="9 video, 6 image"):
        read(tmp_path)
    assert read(tmp_path, "video").survey.items == 9 and read(tmp_path, "image").survey.items == 15


def test_folders_of_frames(tmp_path: Path) -> None:
    for kind in ("left", "right"):
        for i in range(6):
            save(ball(i + 10 * (kind == "left"), 6), tmp_path / kind / f"clip{i}.frames")
    data = read(tmp_path)  # evident
    assert data.survey.items == 12 and data.columns == {"class": ("left", "right")}
    assert data.modality.shape == (3, 6, 16, 16)
    only = tmp_path / "left" / "clip3"
    assert read(only).modality.name == "image"  # one folder of numbered pictures can be anything
    assert read(only, "video").survey.items == 1
    (tmp_path / "left" / "metadata.csv").write_text(
        "file_name,who\n" + "".join(f"clip{i},a{i % 2}\n" for i in range(6))
    )
    assert read(tmp_path).columns["who"] == ("a0", "a1")


def test_numbered_class_folders_are_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for kind in range(4):
        for i in range(12):
            path = tmp_path / str(kind) / f"{i:04d}.png"
            path.parent.mkdir(exist_ok=True)
            digit = ball(int(rng.integers(1000)), 1, channels=1).frames[0, ..., 0]
            Image.fromarray(digit).save(path)
    data = read(tmp_path)
    assert data.modality.name == "image" and len(data.columns["class"]) == 4
    assert read(tmp_path, "video").survey.items == 4


def test_sheets_are_cut_as_their_table_says(tmp_path: Path) -> None:
    clips = [ball(i, 4 + i, 8, channels=4) for i in range(3)]
    sheet = np.zeros((24, 56, 4), np.uint8)
    for row, clip in enumerate(clips):
        frames = np.where(clip.frames[..., 3:] > 0, clip.frames, 0)
        sheet[8 * row : 8 * row + 8, : 8 * len(clip)] = np.concatenate(list(frames), 1)
    Image.fromarray(sheet).save(tmp_path / "hero.png")
    (tmp_path / "metadata.jsonl").write_text(
        '{"file_name": "hero.png", "columns": 7, "rows": 3, "who": "ada"}'
    )
    data = read(tmp_path, length=4)
    assert data.survey.totals["clips"] == 3 and data.survey.totals["frames"] == 4 + 5 + 6
    found = {
        n: x
        for s in (data.train, data.val)
        for n, x in zip(s.names, s.batch(torch.arange(len(s)))[0], strict=True)
    }
    for row, clip in enumerate(clips):
        assert torch.equal(data.modality.encode([clip])[0], found[f"hero.png#{row}"])
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "hero.png", "columns": 9}')
    with pytest.raises(UserError, match="cannot be divided into 9 columns"):
        read(tmp_path)


def test_arrays(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (10, 2, 5, 8, 8, 3)).astype(np.uint8)
    np.savez(tmp_path / "walk.npz", clips=clips, directions=np.array(["left", "right"]), fps=np.float32(12))
    np.savez(tmp_path / "run.npz", clips=clips[::-1] // 2)
    data = read(tmp_path)
    assert data.survey.items == 40 and data.modality.format.rate == 12 and data.modality.shape == (3, 5, 8, 8)
    assert data.columns["class"] == ("run", "walk") and data.columns["directions"] == ("left", "right")
    assert len(data.columns["axis0"]) == 10
    for split in (data.train, data.val):
        decoded = data.modality.decode(split.batch(torch.arange(len(split)))[0])
        for i, (name, clip) in enumerate(zip(split.names, decoded, strict=True)):
            if name.startswith("walk"):
                number = int(name[-2:])
                assert split.labels["directions"][i] == number % 2 and split.labels["class"][i] == 1
                assert np.array_equal(clip.frames, clips[number // 2, number % 2])


@pytest.mark.parametrize("order", ["n t h w c", "n t c h w", "n c t h w", "t h w c", "n t h w", "t h w"])
def test_layouts_of_arrays(tmp_path: Path, order: str) -> None:
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (6, 5, 8, 7, 3)).astype(np.uint8)
    clips = clips if "c" in order else clips[..., :1]
    axes = order.split()
    array = clips if "n" in axes else clips[:1]
    moved = np.einsum(
        f"nthwc->{''.join(axes)}{'' if 'n' in axes else 'n'}{'' if 'c' in axes else 'c'}", array
    )
    moved = moved[..., 0] if "c" not in axes else moved
    np.save(tmp_path / "x.npy", moved[..., 0] if "n" not in axes else moved)
    data = read(tmp_path / "x.npy", "video")
    found = torch.cat([x for x in states(data) if len(x)])
    wanted = {a.tobytes() for a in array}
    assert {c.frames.tobytes() for c in data.modality.decode(found)} == wanted


@pytest.mark.parametrize("values", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-7.0, 3.0)])
def test_floating_arrays_mean_their_range(tmp_path: Path, values: tuple[float, float]) -> None:
    clip = ball(1, 5, 8).frames
    clip[0, 0, 0], clip[0, 0, 1] = 0, 255
    low, high = values
    np.save(tmp_path / "x.npy", (low + clip[None] / 255.0 * (high - low)).astype(np.float32))
    data = read(tmp_path / "x.npy", "video")
    assert np.array_equal(data.modality.decode(states(data)[0])[0].frames, clip)


def test_grey_and_opaque_clips_have_no_idle_channels(tmp_path: Path) -> None:
    for i in range(3):
        grey = ball(i, channels=1).frames
        save(
            Clip(np.concatenate([grey, grey, grey, np.full_like(grey, 255)], -1), "RGBA", 8.0),
            tmp_path / f"{i}.apng",
        )
    data = read(tmp_path)
    assert data.modality.shape == (1, 8, 16, 16) and "grey" in notes(data)["mode"]
    save(ball(5), tmp_path / "colour.apng")
    assert read(tmp_path).modality.shape[0] == 3
    sprite = ball(6, channels=4)
    sprite.frames[:, :4] = 0
    save(sprite, tmp_path / "sprite.webp")
    data = read(tmp_path)
    assert data.modality.shape[0] == 4 and data.modality.write(sprite, tmp_path / "out").suffix == ".webp"


def test_bad_files_are_skipped_by_name_and_leave_nothing_behind(tmp_path: Path) -> None:
    for i in range(20):
        save(counted(i, 6), tmp_path / f"{i:02d}.apng")
    film = save(ball(5, 40, 32), tmp_path / "cut.mkv")
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    Image.fromarray(ball(1).frames[0]).save(tmp_path / "still.png")
    data = read(tmp_path, "video")
    assert [name for name, _ in data.survey.skipped] == ["cut.mkv"] and data.survey.items == 20
    for split in (data.train, data.val):
        for name, x in zip(split.names, split.batch(torch.arange(len(split)))[0], strict=True):
            assert ((x[0, 0, 0, 0] + 1) * 127.5).round() == int(name[:2])
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "a.mp4").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"a\.mp4"):
        read(bad)


def test_a_clip_of_another_form_is_brought_to_this_one(tmp_path: Path) -> None:
    save(ball(0, 8), tmp_path / "0.apng")
    modality = read(tmp_path).modality
    fast = Clip(ball(0, 8).frames.repeat(3, 0), "RGB", 24.0)
    large = Clip(ball(0, 8).frames.repeat(2, 1).repeat(2, 2), "RGB", 8.0)
    short = Clip(ball(0, 3).frames, "RGB", 8.0)
    assert modality.fit(fast).same(ball(0, 8))
    assert np.abs(modality.fit(large).frames.astype(int) - ball(0, 8).frames).max() < 60
    assert np.array_equal(modality.fit(short).frames, ball(0, 3).frames[[0, 1, 2, 2, 2, 2, 2, 2]])
    assert modality.places("time", "0-0.5s") == range(4) and modality.places("time", "last") == range(7, 8)
    long = torch.zeros(1, 3, 20, 32, 24)
    assert modality.decode(long)[0].frames.shape == (20, 32, 24, 3)


def test_real_sprites_and_films(shared_data: Callable[[str], Path]) -> None:
    walk = read(shared_data("lpc_sprites") / "walk.npz")
    assert walk.survey.items == 192 and len(walk.columns["axis1"]) == 4
    film = shared_data("street_videos") / "bigbuckbunny.mp4"
    data = read(film)
    assert data.modality.format.rate == 12.5 and data.survey.totals["frames"] == 66  # 132 at 25 a second
    with pytest.raises(UserError, match="5 video"):
        read(shared_data("lpc_sprites"))
