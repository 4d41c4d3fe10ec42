"""One format for a mixed folder: sizes, modes, depths, ranges; resizing; and the sheet to look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kuosan.errors import UserError
from kuosan.modalities import ImageFormat, Picture, as_rgb, grid_picture, load
from kuosan.modalities.image_format import choose_format
from kuosan.modalities.pixels import DEPTHS, Header, convert, join_modes
from kuosan.modalities.resize import cover, crop_box


def noise(shape: tuple[int, ...], seed: int = 0, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def chosen(*headers: tuple[int, int, int], **options: object) -> tuple[int, int]:
    made = [Header(h, w, 3, "RGB", "uint8", count) for h, w, count in headers]
    form, _ = choose_format(made, options.get("max_side", 64), options.get("size"))  # type: ignore[arg-type]
    return form.height, form.width


@pytest.mark.parametrize(
    ("headers", "size"),
    [
        ([(28, 28, 9)], (28, 28)),
        ([(9, 7, 2)], (9, 7)),
        ([(256, 256, 9)], (64, 64)),
        ([(480, 640, 9)], (48, 64)),
        ([(1000, 500, 9)], (64, 32)),
        ([(30, 30, 9), (99, 40, 3)], (30, 30)),
        ([(20, 20, 1), (24, 24, 1), (40, 40, 1)], (24, 24)),
        ([(5000, 10, 3)], (64, 4)),
    ],
)
def test_sizes(headers: list[tuple[int, int, int]], size: tuple[int, int]) -> None:
    assert chosen(*headers) == size


@given(
    st.lists(
        st.tuples(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 5)), min_size=1, max_size=6
    ),
    st.integers(4, 300),
)
def test_sizes_keep_their_promises(headers: list[tuple[int, int, int]], max_side: int) -> None:
    height, width = chosen(*headers, max_side=max_side)
    assert 1 <= min(height, width) and max(height, width) <= max_side
    native = {(h, w) for h, w, _ in headers}
    assert (height, width) in native or (height % 4 == 0 and width % 4 == 0)
    # order and repetition of the same facts change nothing
    assert chosen(*headers[::-1], max_side=max_side) in {(height, width)} | native


def test_a_size_that_was_asked_for() -> None:
    assert chosen((50, 40, 3), size=32) == (32, 32) and chosen((50, 40, 3), size=(10, 20)) == (10, 20)
    with pytest.raises(UserError, match="at least 1"):
        chosen((50, 40, 3), size=0)


def test_modes_join_upwards() -> None:
    assert join_modes(["1", "L"]) == "L" and join_modes(["L", "LA", "1"]) == "LA"
    assert join_modes(["LA", "RGB"]) == "RGBA" and join_modes(["CMYK"]) == "CMYK"
    assert join_modes(["CMYK", "L"]) == "RGB" and join_modes(["CMYK", "LA"]) == "RGBA"


@pytest.mark.parametrize("mode", ["L", "LA", "RGB"])
@pytest.mark.parametrize(
    ("dtype", "to_dtype"), [("uint8", deeper) for deeper in DEPTHS] + [("uint16", d) for d in DEPTHS[1:]]
)
def test_moving_up_and_down_again_loses_nothing(mode: str, dtype: str, to_dtype: str) -> None:
    raw = noise((5, 4, {"L": 1, "LA": 2, "RGB": 3}[mode]), dtype=dtype)
    if mode == "LA":
        raw[..., 1] = np.iinfo(dtype).max  # alpha itself survives; colour under it only where it is seen
    up = convert(raw, mode, "RGBA", to_dtype)
    assert np.array_equal(convert(up, "RGBA", mode, dtype), raw)


def test_transparency_is_laid_over_white() -> None:
    half = np.array([[[100, 0, 200, 0], [100, 0, 200, 255], [100, 0, 200, 51]]], np.uint8)
    assert convert(half, "RGBA", "RGB", "uint8")[0].tolist() == [[255] * 3, [100, 0, 200], [224, 204, 244]]
    grey = convert(np.array([[[255, 0, 0]]], np.uint8), "RGB", "L", "uint8")
    assert grey.item() == 76  # ITU-R BT.601: 0.299 of 255


def test_ink_becomes_light() -> None:
    ink = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [9, 9, 9, 255]]], np.uint8)
    assert convert(ink, "CMYK", "RGB", "uint8")[0].tolist() == [[255] * 3, [0, 255, 255], [0] * 3]


def test_cover_keeps_constants_and_the_centre() -> None:
    for dtype, value in (("uint8", 77), ("uint16", 40_000), ("float32", -3.25)):
        flat = np.full((30, 50, 1), value, dtype)
        assert (cover(flat, "L", 8, 8) == flat.dtype.type(value)).all()
    left, top, right, bottom = crop_box(30, 50, 8, 8)
    assert (left, top, right, bottom) == (10, 0, 40, 30)
    mirrored = noise((40, 60, 1))
    assert np.array_equal(cover(mirrored, "L", 8, 12)[:, ::-1], cover(mirrored[:, ::-1].copy(), "L", 8, 12))


def test_sixteen_bits_are_resized_as_sixteen_bits() -> None:
    ramp = np.broadcast_to(np.arange(0, 65536, 256, dtype=np.uint16)[None, :, None], (16, 256, 1)).copy()
    small = cover(ramp, "L", 4, 64)
    inner = small[2, 4:-4, 0].astype(float)
    assert np.abs(inner - (np.arange(64) * 4 + 1.5)[4:-4] * 256).max() <= 2  # a linear ramp stays linear
    assert len(set((small[2, :, 0] % 256).tolist())) > 1


def test_resizing_does_not_alias() -> None:
    stripes = np.broadcast_to(
        (np.arange(256) % 2 * 255).astype(np.uint8)[None, :, None], (256, 256, 1)
    ).copy()
    inner = cover(stripes, "L", 16, 16)[:, 2:-2]  # at the edges the filter is cut off
    assert np.abs(inner.astype(int) - 127).max() <= 2


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_hidden_colour_does_not_bleed(dtype: str) -> None:
    full = np.iinfo(dtype).max
    raw = np.zeros((32, 32, 4), dtype)
    raw[:, :16] = (full, 0, 0, full)
    raw[:, 16:] = (0, full, 0, 0)  # green, but fully transparent
    out = cover(raw, "RGBA", 8, 8)
    seen = out[..., 3] > full // 4
    assert (out[seen][:, 1] <= full // 100).all() and (out[seen][:, 0] > 0.95 * full).all()


def test_a_mixed_folder_gets_the_richest_format(tmp_path: Path) -> None:
    Image.fromarray(noise((8, 8), 1)).save(tmp_path / "a.png")
    Image.fromarray(noise((8, 8, 3), 2)).save(tmp_path / "b.png")
    tifffile.imwrite(tmp_path / "c.tif", noise((8, 8, 3), 3, "uint16"))
    data = load(tmp_path)
    f = data.modality.format
    assert (f.mode, f.dtype, f.channels, f.suffix) == ("RGB", "uint16", 3, ".png")
    assert data.survey.modes == {"RGB": 2, "L": 1} and {what for what, _, _ in data.survey.notes} >= {
        "mode",
        "depth",
    }
    at = data.train.names + data.val.names
    x = torch.cat([data.train.x, data.val.x])[at.index("a.png")].to(torch.int64)
    expected = torch.from_numpy(noise((8, 8), 1)).to(torch.int64) * 257
    assert all(torch.equal(channel, expected) for channel in x)


def test_an_alpha_that_is_never_used_is_dropped_and_said(tmp_path: Path) -> None:
    for i in range(4):
        raw = noise((8, 8, 4), i)
        raw[..., 3] = 255
        Image.fromarray(raw).save(tmp_path / f"{i}.png")
    data = load(tmp_path)
    assert data.modality.format.mode == "RGB" and any("opaque" in why for _, _, why in data.survey.notes)
    raw[0, 0, 3] = 254
    Image.fromarray(raw).save(tmp_path / "3.png")
    assert load(tmp_path).modality.format.mode == "RGBA"


def test_one_bit_stays_one_bit_until_it_is_resized(tmp_path: Path) -> None:
    for i in range(4):
        Image.fromarray(noise((8, 12), i) > 127).save(tmp_path / f"{i}.png")
    data = load(tmp_path)
    assert data.modality.format.mode == "1" and set(
        data.train.batch(torch.arange(3))[0].unique().tolist()
    ) == {-1, 1}
    assert load(tmp_path, size=4).modality.format.mode == "L"


def test_ranges_are_taken_from_the_data(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.linspace(-2, 6, 20 * 64).reshape(20, 8, 8))
    f = load(tmp_path).modality.format
    assert (f.low, f.high, f.suffix) == (-2, 6, ".tif")
    np.save(tmp_path / "x.npy", noise((20, 8, 8)) // 16)
    assert load(tmp_path).modality.format.high == 15


def test_channels_that_do_not_fit_are_skipped(tmp_path: Path) -> None:
    for i in range(11):
        tifffile.imwrite(
            tmp_path / f"{i}.tif", noise((8, 8, 5), i), photometric="minisblack", planarconfig="contig"
        )
    Image.fromarray(noise((8, 8, 3))).save(tmp_path / "rgb.png")
    data = load(tmp_path)
    assert data.modality.format.channels == 5 and [n for n, _ in data.survey.skipped] == ["rgb.png"]


def test_a_damaged_file_has_no_say_in_the_format(tmp_path: Path) -> None:
    for i in range(12):
        Image.fromarray(noise((8, 8, 3), i)).save(tmp_path / f"{i}.png")
    Image.fromarray(noise((90, 40, 4))).save(tmp_path / "bad.png")
    whole = (tmp_path / "bad.png").read_bytes()
    (tmp_path / "bad.png").write_bytes(whole[: len(whole) // 2])
    data = load(tmp_path)
    assert data.modality.format.mode == "RGB" and data.survey.items == 12
    assert not any("the pictures come in" in why for _, _, why in data.survey.notes)


def test_like_brings_other_data_into_a_given_format(tmp_path: Path) -> None:
    Image.fromarray(noise((8, 8), 1)).save(tmp_path / "a.png")
    grey = load(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    tifffile.imwrite(other / "c.tif", noise((40, 30, 3), 3, "uint16"))
    data = load(other, like=grey.modality)
    assert data.modality.format == grey.modality.format == ImageFormat(8, 8, 1, "L", "uint8", 0.0, 255.0)


def test_the_sheet_shows_each_pixel_where_it_belongs() -> None:
    raws = [Picture(noise((4, 6, 1), i), "L") for i in range(5)]
    sheet = np.asarray(grid_picture(raws, columns=3, scale=2))
    assert sheet.shape == (2 * (8 + 2) + 2, 3 * (12 + 2) + 2, 3)
    for i, raw in enumerate(raws):
        top, left = 2 + i // 3 * 10, 2 + i % 3 * 14
        tile = sheet[top : top + 8 : 2, left : left + 12 : 2, 0]
        assert np.array_equal(tile, raw.pixels[..., 0])
    states = torch.from_numpy(np.stack([r.pixels for r in raws])).permute(0, 3, 1, 2) / 127.5 - 1
    assert np.array_equal(np.asarray(grid_picture(states, columns=3, scale=2)), sheet)


def test_the_sheet_knows_every_mode() -> None:
    clear = Picture(np.zeros((2, 2, 4), np.uint8), "RGBA")
    assert np.asarray(as_rgb(clear)).min() > 200  # a light checkerboard shines through
    deep = Picture(np.full((2, 2, 3), 65535, np.uint16), "RGB")
    assert (np.asarray(as_rgb(deep)) == 255).all()
    black = Picture(np.full((2, 2, 4), 255, np.uint8), "CMYK")
    assert (np.asarray(as_rgb(black)) == 0).all()
    pair = Picture(np.stack([np.zeros((2, 3)), np.ones((2, 3))], -1).astype(np.float32), "multi")
    assert np.asarray(as_rgb(pair))[..., 0].tolist() == [[0, 0, 0, 255, 255, 255]] * 2
    assert grid_picture([]).size == (1, 1)


def test_sides_are_known_from_headers(tmp_path: Path) -> None:
    from kuosan.modalities.folder import open_folder
    from kuosan.modalities.image_gather import picture_sides

    for i, (h, w) in enumerate([(10, 30), (90, 20), (5, 5)]):
        Image.fromarray(noise((h, w, 3))).save(tmp_path / f"{i}.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    assert sorted(picture_sides(open_folder(tmp_path))) == [5, 30, 90]
    np.save(tmp_path / "x.npy", noise((4, 12, 17, 3)))
    assert picture_sides(open_folder(tmp_path / "x.npy")) == [17] * 4
