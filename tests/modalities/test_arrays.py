"""Containers of arrays: layouts, pairing of labels, parts, and files that are something else."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kuosan.errors import UserError
from kuosan.modalities import Unreadable, load
from kuosan.modalities.arrays import class_texts, layout, texts
from kuosan.modalities.idx import read_idx

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(array: np.ndarray) -> bytes:
    code = CODES[array.dtype.str[1:]]
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def pictures(n: int, height: int = 8, width: int = 8, seed: int = 0, channels: int = 0) -> np.ndarray:
    shape = (n, height, width, channels) if channels else (n, height, width)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


@given(
    array=st.sampled_from(sorted(CODES)).flatmap(
        lambda code: hnp.arrays(code, hnp.array_shapes(min_dims=1, max_dims=4, max_side=5))
    ),
    compressed=st.booleans(),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_idx_round_trips_and_any_cut_is_noticed(tmp_path: Path, array: np.ndarray, compressed: bool) -> None:
    whole = idx_bytes(array)
    path = tmp_path / "x-idx-ubyte"
    path.write_bytes(gzip.compress(whole) if compressed else whole)
    back = read_idx(path)
    assert back.dtype == array.dtype and back.tobytes() == array.tobytes() and back.shape == array.shape
    for wrong in (whole[:-1], whole + b"\0"):
        path.write_bytes(gzip.compress(wrong) if compressed else wrong)
        with pytest.raises(Unreadable):
            read_idx(path)
    if compressed:
        path.write_bytes(gzip.compress(whole)[:-3])
        with pytest.raises(Unreadable, match="truncated|damaged"):
            read_idx(path)


def test_a_header_that_asks_for_all_memory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x-idx3-ubyte").write_bytes(bytes([0, 0, 8, 3]) + struct.pack(">3I", *(2**32 - 1,) * 3))
    with pytest.raises(Unreadable, match="asks for"):
        read_idx(tmp_path / "x-idx3-ubyte")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((7, 28, 20), (7, 28, 20, 1)),
        ((7, 28, 20, 3), (7, 28, 20, 3)),
        ((7, 3, 28, 20), (7, 28, 20, 3)),
        ((7, 1, 8, 9), (7, 8, 9, 1)),
        ((7, 8, 9, 3), (7, 8, 9, 3)),
        ((7, 13, 64, 48), (7, 64, 48, 13)),
        ((7, 4, 4, 4), (7, 4, 4, 4)),
        ((30, 20, 3), (1, 30, 20, 3)),
        ((7, 17, 30, 40), None),
        ((7, 64), None),
        ((2, 3, 4, 5, 3), None),
    ],
)
def test_layouts(shape: tuple[int, ...], expected: tuple[int, ...] | None) -> None:
    array = np.arange(np.prod(shape)).reshape(shape)
    found = layout(array)
    assert (found.shape if found is not None else None) == expected
    if shape == (7, 4, 4, 4):
        assert np.array_equal(found, array), "where both axes would do, channels are the last one"
    if found is not None and len(shape) == 4 and found.shape != shape:
        assert np.array_equal(np.moveaxis(found, -1, 1), array)


def test_texts_and_classes() -> None:
    assert texts(np.array([3.0, 0.5, np.nan])) == ["3", "0.5", None]
    assert texts(np.array(["cat", " "])) == ["cat", None]
    assert texts(np.array([True, False])) == ["true", "false"]
    assert class_texts(np.eye(3, dtype=np.uint8)[[2, 0]], 2) == ["2", "0"]
    assert class_texts(np.array([[4], [5]]), 2) == ["4", "5"]
    assert class_texts(np.array([0.25, 1.0]), 2) is None
    assert class_texts(np.array([[1, 1], [0, 1]]), 2) is None


@pytest.mark.parametrize("key", ["images", "x", "data", "anything"])
@pytest.mark.parametrize("label", ["labels", "y"])
def test_npz_with_labels_and_columns(tmp_path: Path, key: str, label: str) -> None:
    x, y = pictures(40), np.arange(40) % 3
    site = np.array(["north", "south"])[np.arange(40) // 20]
    np.savez(tmp_path / "d.npz", **{key: x, label: y, "site": site, "serial": np.arange(40)})
    data = load(tmp_path / "d.npz")
    assert data.columns == {"class": ("0", "1", "2"), "site": ("north", "south")}
    for split in (data.train, data.val):
        for i, name in enumerate(split.names):
            at = int(name.rpartition("#")[2])
            assert np.array_equal(split.x[i, 0].numpy(), x[at])
            assert split.labels["class"][i] == y[at] and split.labels["site"][i] == at // 20


@pytest.mark.parametrize("pattern", ["{}_images {}_labels", "x_{} y_{}"])
def test_npz_with_its_own_parts(tmp_path: Path, pattern: str) -> None:
    arrays = {}
    for seed, (part, n) in enumerate({"train": 30, "val": 7, "test": 9}.items()):
        image, label = pattern.replace("{}", part).split()
        arrays |= {image: pictures(n, seed=seed), label: np.arange(n)[:, None] % 2}
    np.savez(tmp_path / "d.npz", **arrays)
    data = load(tmp_path)
    assert (len(data.train), len(data.val), data.columns) == (30, 7, {"class": ("0", "1")})
    assert any("test" in name for name, _ in data.survey.left_alone)
    arrays = {key: value for key, value in arrays.items() if "val" not in key}
    np.savez(tmp_path / "d.npz", **arrays)
    assert len(load(tmp_path).val) == 9


@pytest.mark.parametrize("held", ["t10k", "t2k", "test", "val"])
def test_idx_pairs_by_name(tmp_path: Path, held: str) -> None:
    for seed, (part, n) in enumerate({"train": 50, held: 12}.items()):
        x, y = pictures(n, seed=seed), (np.arange(n) % 10).astype(np.uint8)
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(x)))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(y))
    (tmp_path / "classes.json").write_text(json.dumps([f"digit {i}" for i in range(10)]))
    data = load(tmp_path)
    assert (len(data.train), len(data.val)) == (50, 12) and not data.survey.skipped
    assert data.train.labels["class"].tolist() == [i % 10 for i in range(50)]
    assert data.resolve("class", "digit 7") == data.resolve("class", "7") == 7


def test_npy_files_in_pairs_and_alone(tmp_path: Path) -> None:
    x = pictures(24, channels=3)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", np.arange(24) % 4)
    data = load(tmp_path)
    assert data.columns["class"] == ("0", "1", "2", "3") and data.modality.format.mode == "RGB"
    assert len(load(tmp_path / "x.npy").train) == 22
    (tmp_path / "many").mkdir()
    for i in range(6):
        np.save(tmp_path / "many" / f"{i}.npy", x[i, ..., 0].astype(np.float32))
    fields = load(tmp_path / "many")
    assert len(fields.train) + len(fields.val) == 6 and fields.modality.format.dtype == "float32"


def test_a_table_is_no_picture(tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", np.zeros((1797, 64)))
    with pytest.raises(UserError, match=r"1797, 64"):
        load(tmp_path)


def test_python_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="never unpickles"):
        load(tmp_path)
    (tmp_path / "x.npy").unlink()
    np.savez(tmp_path / "x.npz", images=pictures(10), extra=np.array([{}], dtype=object))
    assert load(tmp_path).survey.items == 10


def test_damaged_containers_are_named(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", images=pictures(10))
    whole = (tmp_path / "x.npz").read_bytes()
    for cut in (whole[: len(whole) // 2], b"", b"PK\x03\x04 nothing more"):
        (tmp_path / "x.npz").write_bytes(cut)
        with pytest.raises(UserError, match=r"x\.npz"):
            load(tmp_path)


def test_depths_of_arrays(tmp_path: Path) -> None:
    cases = {"int64": (pictures(12).astype(np.int64), "uint8"), "bool": (pictures(12) > 99, "uint8")}
    cases |= {"wide": (pictures(12).astype(np.int32) * 200, "uint16")}
    cases |= {
        "signed": (pictures(12).astype(np.int16) - 100, "float32"),
        "f8": (pictures(12) / 16.0, "float32"),
    }
    for name, (array, dtype) in cases.items():
        np.savez(tmp_path / f"{name}.npz", images=array)
        data = load(tmp_path / f"{name}.npz")
        assert data.modality.format.dtype == dtype
        back = data.modality.decode(data.train.batch(np.arange(len(data.train)))[0])
        for raw, item in zip(back, data.train.names, strict=True):
            assert np.allclose(raw.pixels[..., 0], array[int(item.rpartition("#")[2])], atol=1e-4)
    assert load(tmp_path / "bool.npz").modality.format.mode == "1"


def test_pictures_with_nan_are_left_out(tmp_path: Path) -> None:
    x = pictures(30).astype(np.float32)
    x[4, 2, 2] = np.nan
    np.savez(tmp_path / "x.npz", images=x, labels=np.arange(30) % 2)
    data = load(tmp_path)
    assert data.survey.items == 29 and "x.npz#04" not in data.train.names + data.val.names
    for name, label in zip(data.train.names, data.train.labels["class"].tolist(), strict=True):
        assert label == int(name.rpartition("#")[2]) % 2
