"""MagicaVoxel's files (ephtracy/voxel-model: MagicaVoxel-file-format-vox.txt and -vox-extension.txt).

    "VOX " version, then chunks (id, bytes of content, bytes of children, content, children) within MAIN:
    SIZE x y z, XYZI n (x y z i)…, RGBA 256 colours; nTRN, nGRP, nSHP place models in a scene

z is up.  Colour number i of a voxel, from 1, is entry i − 1 of RGBA.  Without a scene every model is an item of its
own (an animation's frames, say); with one, what stands in it together is one item, which is what MagicaVoxel shows.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kuosan.modalities.base import Unreadable

MOST_SIDE = 256  # of a model, by the format
MOST_SCENE = 1024  # of a scene that is read as one item
COLOURS = 255
_CHUNK = struct.Struct("<4sii")


@dataclass
class _Scene:
    """What the chunks of a file say."""

    sizes: list[tuple[int, int, int]] = field(default_factory=list)
    voxels: list[NDArray[np.uint8]] = field(default_factory=list)  # (n, 4)
    palette: NDArray[np.uint8] | None = None  # (256, 3)
    moves: dict[int, tuple[int, NDArray[np.int64], NDArray[np.int64]]] = field(default_factory=dict)
    groups: dict[int, list[int]] = field(default_factory=dict)
    models: dict[int, list[int]] = field(default_factory=dict)


def read_vox(path: Path) -> list[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Positions (n, 3) and colours (n, 3) of every item.  Raises `Unreadable`."""
    data = path.read_bytes()
    if not data.startswith(b"VOX ") or len(data) < 20:
        raise Unreadable("the file is damaged or no MagicaVoxel file", path)
    try:
        scene = _read(data)
        items = _placed(scene)
    except (struct.error, ValueError, IndexError, KeyError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"the file is damaged ({error})", path) from None
    if not items:
        raise Unreadable("it holds no voxels", path)
    return items


def write_vox(positions: NDArray[np.int64], colours: NDArray[np.uint8], path: Path) -> None:
    """Voxels of at most 255 colours.  Raises ValueError where there are more, or where they do not fit."""
    size = positions.max(0) + 1 if len(positions) else np.ones(3, np.int64)
    palette, index = np.unique(colours, axis=0, return_inverse=True)
    if len(palette) > COLOURS or size.max() > MOST_SIDE:
        raise ValueError(f"a .vox holds {COLOURS} colours and {MOST_SIDE} voxels a side")
    table = np.zeros((256, 4), np.uint8)
    table[: len(palette), :3], table[: len(palette), 3] = palette, 255
    voxels = np.column_stack([positions, index.ravel() + 1]).astype(np.uint8)
    parts = (
        (b"SIZE", struct.pack("<3i", *size.tolist())),
        (b"XYZI", struct.pack("<i", len(voxels)) + voxels.tobytes()),
        (b"RGBA", table.tobytes()),
    )
    children = b"".join(_CHUNK.pack(name, len(body), 0) + body for name, body in parts)
    path.write_bytes(b"VOX " + struct.pack("<i", 150) + _CHUNK.pack(b"MAIN", 0, len(children)) + children)


def _chunks(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    while at < end:
        name, content, children = _CHUNK.unpack_from(data, at)
        at += _CHUNK.size
        if content < 0 or children < 0 or at + content > len(data):
            raise ValueError(f"a chunk of {content} bytes reaches beyond its end")
        yield name, data[at : at + content]
        at += content + (children if name != b"MAIN" else 0)


def _read(data: bytes) -> _Scene:
    scene = _Scene()
    for name, body in _chunks(data, 8, len(data)):
        if name == b"SIZE":
            x, y, z = struct.unpack_from("<3i", body)
            scene.sizes.append((x, y, z))
        elif name == b"XYZI":
            (count,) = struct.unpack_from("<i", body)
            voxels = np.frombuffer(body, np.uint8, 4 * count, 4).reshape(count, 4)
            scene.voxels.append(voxels[(voxels[:, :3] < scene.sizes[-1]).all(1)])
        elif name == b"RGBA":
            scene.palette = np.frombuffer(body, np.uint8, 1024).reshape(256, 4)[:, :3]
        elif name in (b"nTRN", b"nGRP", b"nSHP"):
            _node(scene, name, body)
    return scene


def _node(scene: _Scene, name: bytes, body: bytes) -> None:
    """A node of the scene; a hidden one has no children, and of several frames the first counts."""
    at = 0

    def number() -> int:
        nonlocal at
        (found,) = struct.unpack_from("<i", body, at)
        at += 4
        return int(found)

    def text() -> str:
        nonlocal at
        length = number()
        if length < 0 or at + length > len(body):
            raise ValueError("a text reaches beyond its chunk")
        at += length
        return body[at - length : at].decode()

    def attributes() -> dict[str, str]:
        return {text(): text() for _ in range(number())}

    node, hidden = number(), attributes().get("_hidden") == "1"
    if name == b"nTRN":
        child, _, layer, frames = number(), number(), number(), number()
        frame = attributes() if frames else {}
        move = np.array([int(word) for word in frame.get("_t", "0 0 0").split()])
        if hidden or layer < -1:
            return
        scene.moves[node] = (child, move, _rotation(int(frame.get("_r", "4"))))
    elif not hidden:
        count = number()
        if name == b"nGRP":
            scene.groups[node] = [number() for _ in range(count)]
        else:
            scene.models[node] = [number()] if count else []


def _rotation(code: int) -> NDArray[np.int64]:
    """The signed permutation that a byte stands for: bits 0–1 and 2–3 are the places in rows 0 and 1, 4–6 signs."""
    first, second = code & 3, code >> 2 & 3
    rows = np.zeros((3, 3), np.int64)
    for row, (place, bit) in enumerate(((first, 4), (second, 5), (3 - first - second, 6))):
        rows[row, place] = -1 if code >> bit & 1 else 1
    return rows


def _placed(scene: _Scene) -> list[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    palette = _usual() if scene.palette is None else scene.palette

    def item(voxels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        positions = voxels[:, :3] - voxels[:, :3].min(0)
        if positions.max() >= MOST_SCENE:
            raise ValueError(f"its scene is {positions.max() + 1} voxels wide, more than {MOST_SCENE}")
        return positions, palette[voxels[:, 3] - 1]

    models = [v.astype(np.int64) for v in scene.voxels]
    if not scene.models:
        return [item(voxels[voxels[:, 3] > 0]) for voxels in models if (voxels[:, 3] > 0).any()]
    found: list[NDArray[np.int64]] = []

    def visit(node: int, move: NDArray[np.int64], turn: NDArray[np.int64]) -> None:
        if node in scene.moves:
            child, own, rotation = scene.moves[node]
            visit(child, move + turn @ own, turn @ rotation)
        for child in scene.groups.get(node, ()):
            visit(child, move, turn)
        for model in scene.models.get(node, ()):
            centre = np.array(scene.sizes[model]) // 2  # a model turns about this voxel's lower corner
            voxels = models[model]
            corners = 2 * (voxels[:, :3] - centre) + 1  # twice the middle of each voxel: whole numbers
            placed = (corners @ turn.T - 1) // 2 + move
            found.append(np.column_stack([placed, voxels[:, 3]]))

    visit(0, np.zeros(3, np.int64), np.eye(3, dtype=np.int64))
    together = np.concatenate(found) if found else np.zeros((0, 4), np.int64)
    together = together[together[:, 3] > 0]
    if not len(together):
        return []
    _, last = np.unique(together[::-1, :3], axis=0, return_index=True)  # what is placed later covers
    return [item(together[::-1][last])]


def _usual() -> NDArray[np.uint8]:
    """The palette of a file without one: a cube of 6³ colours from white down, then ramps of red, green, blue, grey."""
    steps = np.array([255, 204, 153, 102, 51, 0], np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)[:-1]
    ramp = np.array([238, 221, 187, 170, 136, 119, 85, 68, 34, 17], np.uint8)
    channels = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]], np.uint8)
    return np.concatenate(
        [cube, *(np.outer(ramp, channel) for channel in channels), np.zeros((1, 3), np.uint8)]
    )
