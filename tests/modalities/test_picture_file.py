"""Files of pictures: every format, depth and mode comes back as it was written, and bad files are named."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from kuosan.errors import UserError
from kuosan.modalities import ImageFormat, ImageModality, Picture, Unreadable
from kuosan.modalities.image_format import full_range
from kuosan.modalities.picture_file import peek, read_picture
from kuosan.modalities.pixels import upright

RNG_SEED = 7
KINDS = [
    *(("1", "uint8", 1), ("L", "uint8", 1), ("LA", "uint8", 2), ("RGB", "uint8", 3), ("RGBA", "uint8", 4)),
    *(("L", "uint16", 1), ("LA", "uint16", 2), ("RGB", "uint16", 3), ("RGBA", "uint16", 4)),
    *(("L", "float32", 1), ("RGB", "float32", 3), ("RGBA", "float32", 4), ("LA", "float32", 2)),
    *(("CMYK", "uint8", 4), ("CMYK", "uint16", 4), ("multi", "uint8", 2), ("multi", "uint8", 5)),
    *(("multi", "uint16", 7), ("multi", "float32", 3)),
]


def picture(mode: str, dtype: str, channels: int, height: int = 12, width: int = 9) -> Picture:
    rng = np.random.default_rng(RNG_SEED)
    if dtype == "float32":
        return Picture(rng.standard_normal((height, width, channels), dtype=np.float32), mode)
    top = 2 if mode == "1" else np.iinfo(dtype).max + 1
    return Picture(rng.integers(0, top, (height, width, channels)).astype(dtype), mode)


def modality_for(raw: Picture) -> ImageModality:
    h, w, c = raw.pixels.shape
    low, high = full_range(raw.mode, str(raw.pixels.dtype))
    if raw.pixels.dtype == np.float32:
        low, high = float(raw.pixels.min()), float(raw.pixels.max())
    return ImageModality(ImageFormat(h, w, c, raw.mode, str(raw.pixels.dtype), low, high))


@pytest.mark.parametrize(("mode", "dtype", "channels"), KINDS)
@pytest.mark.parametrize("suffix", ["", ".tif"])
def test_write_then_read_is_the_identity(
    tmp_path: Path, mode: str, dtype: str, channels: int, suffix: str
) -> None:
    raw = picture(mode, dtype, channels)
    modality = modality_for(raw)
    path = modality.write(raw, tmp_path / f"x{suffix}")
    assert path.suffix == (suffix or modality.format.suffix)
    back = modality.read(path)
    assert back.same(raw), (back.mode, back.pixels.dtype, back.pixels.shape)
    header = peek(path)
    assert (header.height, header.width, header.channels) == raw.pixels.shape
    assert (header.mode, header.dtype) == (mode, dtype)


@pytest.mark.parametrize(("mode", "dtype", "channels"), KINDS)
def test_decode_undoes_encode(mode: str, dtype: str, channels: int) -> None:
    raw = picture(mode, dtype, channels)
    modality = modality_for(raw)
    x = modality.encode([raw, raw])
    assert x.shape == (2, channels, 12, 9) and x.min() >= -1 - 1e-6 and x.max() <= 1 + 1e-6
    for back in modality.decode(x):
        if dtype == "float32":
            span = modality.format.high - modality.format.low
            assert np.abs(back.pixels - raw.pixels).max() <= 1e-6 * span
        else:
            assert back.same(raw)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_every_level_survives_encoding(dtype: str) -> None:
    levels = np.arange(np.iinfo(dtype).max + 1, dtype=dtype).reshape(-1, 256, 1)
    raw = Picture(levels, "L")
    modality = modality_for(raw)
    x = modality.encode([raw])
    assert x.min() == -1 and x.max() == 1
    assert modality.decode(x)[0].same(raw)
    # half a level of error is the most that rounding may take away
    assert modality.decode(x + 0.9 / np.iinfo(dtype).max)[0].same(raw)


def test_states_outside_the_range_are_clipped() -> None:
    modality = ImageModality(ImageFormat(4, 4, 1, "L", "uint8", 0.0, 255.0))
    x = modality.encode([picture("L", "uint8", 1, 4, 4)])
    assert (modality.decode(x + 9)[0].pixels == 255).all() and (modality.decode(x - 9)[0].pixels == 0).all()


def test_to_state_leaves_its_storage_alone() -> None:
    raw = picture("L", "float32", 1)
    modality = modality_for(raw)
    import torch

    storage = torch.from_numpy(raw.pixels.transpose(2, 0, 1)[None].copy())
    before = storage.clone()
    modality.to_state(storage)
    assert torch.equal(storage, before)


def test_spec_rebuilds_the_modality() -> None:
    import json

    from kuosan.modalities import modality_from_spec

    modality = ImageModality(ImageFormat(8, 12, 3, "RGB", "uint16", 0.0, 65535.0))
    again = modality_from_spec(json.loads(json.dumps(modality.spec())))
    assert isinstance(again, ImageModality) and again.format == modality.format
    with pytest.raises(UserError, match="smells"):
        modality_from_spec({"modality": "smells"})


def test_a_suffix_that_would_lose_something_is_refused(tmp_path: Path) -> None:
    raw = picture("RGB", "float32", 3)
    with pytest.raises(UserError, match=r"x\.tif"):
        modality_for(raw).write(raw, tmp_path / "x.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff", "gif", "bmp"])
def test_formats_of_others_decode_as_pillow_does(tmp_path: Path, suffix: str) -> None:
    raw = picture("L" if suffix == "gif" else "RGB", "uint8", 1 if suffix == "gif" else 3)
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(raw.pixels.squeeze()).save(path)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))  # a GIF has a palette, and a palette is colour
    back = read_picture(path)
    assert back.mode == "RGB" and np.array_equal(back.pixels, expected)


def test_sixteen_bit_colour_is_not_cut_to_eight(tmp_path: Path) -> None:
    raw = Picture(np.arange(300, 300 + 48, dtype=np.uint16).reshape(4, 4, 3), "RGB")
    path = modality_for(raw).write(raw, tmp_path / "deep.png")
    with Image.open(path) as image:
        assert np.asarray(image).dtype == np.uint8, (
            "Pillow keeps 16 bits by now: the special way is not needed"
        )
    assert read_picture(path).same(raw)


def test_a_palette_becomes_its_colours(tmp_path: Path) -> None:
    indexed = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    indexed.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    indexed.save(tmp_path / "p.png")
    indexed.save(tmp_path / "t.png", transparency=1)
    opaque, clear = read_picture(tmp_path / "p.png"), read_picture(tmp_path / "t.png")
    assert opaque.mode == "RGB" and opaque.pixels[1, 0].tolist() == [70, 80, 90]
    assert clear.mode == "RGBA" and clear.pixels[..., 3].tolist() == [[255, 0], [255, 0]]
    assert peek(tmp_path / "t.png").mode == "RGBA"


def test_grey_with_a_transparent_level_keeps_its_alpha(tmp_path: Path) -> None:
    Image.fromarray(np.array([[5, 9]], np.uint8)).save(tmp_path / "g.png", transparency=9)
    back = read_picture(tmp_path / "g.png")
    assert back.mode == "LA" and back.pixels.tolist() == [[[5, 255], [9, 0]]]


def test_cmyk_jpeg_keeps_four_channels(tmp_path: Path) -> None:
    flat = np.broadcast_to(np.array([200, 100, 50, 20], np.uint8), (16, 16, 4))
    Image.fromarray(np.ascontiguousarray(flat), "CMYK").save(tmp_path / "c.jpg", quality=100)
    back = read_picture(tmp_path / "c.jpg")
    assert back.mode == "CMYK" and np.abs(back.pixels.astype(int) - flat).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    raw = picture("RGB", "uint8", 3, 6, 4).pixels
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(raw).save(tmp_path / "r.png", exif=exif)
    with Image.open(tmp_path / "r.png") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    back, header = read_picture(tmp_path / "r.png"), peek(tmp_path / "r.png")
    assert np.array_equal(back.pixels, expected) and np.array_equal(upright(raw, orientation), expected)
    assert (header.height, header.width) == expected.shape[:2]
    # and where Pillow does not decode: floating point in TIFF, with the orientation in its tag
    values = raw[..., :1].astype(np.float32)
    tag = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "r.tif", values[..., 0], extratags=tag, metadata=None)
    assert np.array_equal(read_picture(tmp_path / "r.tif").pixels, expected[..., :1].astype(np.float32))


def test_first_frame_and_first_page(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((5, 6), value, np.uint8)) for value in (30, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (read_picture(tmp_path / "a.gif").pixels == 30).all()
    pages = np.stack([np.full((5, 6), value, np.uint16) for value in (300, 2000)])
    tifffile.imwrite(tmp_path / "a.tif", pages)
    assert (read_picture(tmp_path / "a.tif").pixels == 300).all()


def test_planar_and_white_is_zero_tiffs(tmp_path: Path) -> None:
    bands = np.arange(5 * 4 * 3, dtype=np.uint16).reshape(5, 4, 3)
    tifffile.imwrite(
        tmp_path / "p.tif", bands, photometric="minisblack", planarconfig="separate", metadata=None
    )
    assert np.array_equal(read_picture(tmp_path / "p.tif").pixels, np.moveaxis(bands, 0, -1))
    white = np.array([[0, 65535, 100]], np.uint16)
    tifffile.imwrite(tmp_path / "w.tif", white, photometric="miniswhite")
    assert read_picture(tmp_path / "w.tif").pixels[0, :, 0].tolist() == [65535, 0, 65435]


def bad_files(folder: Path) -> dict[str, str]:
    """Files that cannot be read, with a word that their reason must hold."""
    good = picture("RGB", "uint8", 3, 64, 64).pixels
    words = {"zero.png": "empty", "words.jpg": "not a picture", "half.png": "damaged|truncated"}
    words |= {"half.jpg": "truncated", "half.tif": "truncated", "deep.png": "damaged|truncated"}
    words |= {"half16.tif": "truncated", "bomb.png": "bomb", "half.webp": "damaged|truncated"}
    words |= {"flipped.png": "damaged"}
    (folder / "zero.png").write_bytes(b"")
    (folder / "words.jpg").write_text("these are words, not a picture")
    for name, options in {
        "half.png": {},
        "half.jpg": {"quality": 95},
        "half.webp": {"lossless": True},
    }.items():
        Image.fromarray(good).save(folder / name, **options)
    tifffile.imwrite(folder / "half.tif", good)
    tifffile.imwrite(folder / "half16.tif", good.astype(np.uint16))
    deep = picture("RGB", "uint16", 3, 64, 64)
    modality_for(deep).write(deep, folder / "deep.png")
    for name in ("half.png", "half.jpg", "half.webp", "half.tif", "half16.tif", "deep.png"):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])
    (folder / "bomb.png").write_bytes(png_header(20_000, 20_000))
    Image.fromarray(good).save(folder / "flipped.png")
    data = bytearray((folder / "flipped.png").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (folder / "flipped.png").write_bytes(data)
    return words


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_bad_files_raise_one_named_error_with_a_plain_reason(tmp_path: Path) -> None:
    for name, word in bad_files(tmp_path).items():
        with pytest.raises(Unreadable, match=word) as caught:
            read_picture(tmp_path / name)
        assert name in str(caught.value) and "Traceback" not in str(caught.value)
    with pytest.raises(Unreadable):
        read_picture(tmp_path / "absent.png")
    assert issubclass(Unreadable, UserError)


def test_a_bomb_just_over_the_limit_is_caught_before_decoding(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(png_header(9_460, 9_460))  # Pillow itself only warns at this size
    with pytest.raises(Unreadable, match="bomb"):
        peek(tmp_path / "b.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission_is_said(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "x.png")
    (tmp_path / "x.png").chmod(0)
    with pytest.raises(Unreadable, match="permission"):
        read_picture(tmp_path / "x.png")


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_that_calls_itself_png_is_read(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (8, 8)).save(tmp_path / "x.jpg")
    (tmp_path / "x.jpg").rename(tmp_path / "x.png")
    assert read_picture(tmp_path / "x.png").mode == mode


def test_a_very_large_jpeg_is_decoded_smaller_and_looks_the_same(tmp_path: Path) -> None:
    wave = np.rint(127 + 120 * np.sin(np.arange(9000) / 400)).astype(np.uint8)
    Image.fromarray(np.tile(wave, (2000, 1))).save(tmp_path / "wide.jpg")
    whole, drafted = (read_picture(tmp_path / "wide.jpg", least) for least in (None, (40, 180)))
    assert peek(tmp_path / "wide.jpg").width == whole.pixels.shape[1] == 9000
    assert drafted.pixels.shape[1] == 9000 / 8, "the smallest that is three times as large as needed"
    one, other = (
        modality_for(picture("L", "uint8", 1, 40, 180)).fit(p).pixels.astype(int) for p in (whole, drafted)
    )
    assert abs(one - other).max() <= 4
    small = Image.fromarray(np.tile(wave[:90], (20, 1)))
    small.save(tmp_path / "small.jpg")
    assert read_picture(tmp_path / "small.jpg", (2, 9)).same(read_picture(tmp_path / "small.jpg")), (
        "others are not"
    )


def test_a_panorama_beyond_the_limit_is_read_where_it_need_not_be_decoded_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kuosan.modalities.picture_file.MAX_PIXELS", 20_000)
    monkeypatch.setattr("kuosan.modalities.picture_file.LARGE", 10_000)
    Image.new("RGB", (400, 100), (10, 20, 30)).save(tmp_path / "wide.jpg")
    assert peek(tmp_path / "wide.jpg").width == 400
    assert read_picture(tmp_path / "wide.jpg", (8, 32)).pixels.shape == (25, 100, 3)
    for least in (None, (100, 400)):
        with pytest.raises(Unreadable, match="far too large"):
            read_picture(tmp_path / "wide.jpg", least)
