"""GLB (glTF 2.0 in one file): a node for each joint, its animation, and a simple body of bones.

The container is small enough to be written by hand: twelve bytes of header, a chunk of JSON and a chunk of numbers
(glTF 2.0 specification, section 4). Every bone is one octahedron, turned and stretched along its offset by a node of
its own that hangs on the joint; so nothing needs skinning, and every viewer shows it. Metres, second axis up.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from kuosan.modalities.motion_form import unit_of
from kuosan.modalities.motion_skeleton import Array, Motion, least_rotation

FLOAT, USHORT = 5126, 5123
_THICK = 0.12  # of a bone's length
_CORNERS = np.array([[0, 0, 0], [1, 0.2, 0], [0, 0.2, 1], [-1, 0.2, 0], [0, 0.2, -1], [0, 1, 0]]) * [
    _THICK,
    1,
    _THICK,
]
_FACES = [(0, 1, 2), (0, 2, 3), (0, 3, 4), (0, 4, 1), (5, 2, 1), (5, 3, 2), (5, 4, 3), (5, 1, 4)]


class _Numbers:
    """The binary chunk, and what points into it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(self, values: NDArray[Any], kind: str, component: int = FLOAT, target: int | None = None) -> int:
        raw = np.ascontiguousarray(values, dtype="<f4" if component == FLOAT else "<u2")
        flat = raw.reshape(len(raw), -1)
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self.data), "byteLength": raw.nbytes}
        self.views.append(view if target is None else view | {"target": target})
        self.data += raw.tobytes() + b"\0" * (-raw.nbytes % 4)
        self.accessors.append({
            "bufferView": len(self.views) - 1, "componentType": component, "count": len(raw), "type": kind,
            "min": flat.min(0).tolist(), "max": flat.max(0).tolist(),
        })  # fmt: skip
        return len(self.accessors) - 1


def write_glb(motion: Motion, path: Path) -> None:
    """Writes an animated body."""
    path.write_bytes(glb_bytes(motion))


def glb_bytes(motion: Motion) -> bytes:
    """A motion as GLB."""
    s, metre = motion.skeleton, unit_of(motion.skeleton)[1]
    numbers = _Numbers()
    mesh = _octahedron(numbers)
    # the first node holds the body and turns its world so that the second axis is up
    nodes: list[dict[str, Any]] = [
        {"name": "body", "children": [1], "rotation": _quaternion(s.world[None])[0].tolist()}
    ]
    turns = [_quaternion(motion.turns[:, j]) for j in range(len(s))]
    start = [motion.place[0].tolist(), *s.offsets[1:]]
    nodes += [
        {"name": s.names[j], "translation": [v * metre for v in start[j]], "rotation": turns[j][0].tolist()}
        for j in range(len(s))
    ]
    children: dict[int, list[int]] = {}
    for j, p in enumerate(s.parents):
        if p >= 0:
            children.setdefault(p, []).append(j + 1)
    tips = [(p, s.offsets[c] if c < len(s) else s.ends[c - len(s)][1]) for p, c in s.bones]
    for p, offset in tips:
        length = float(np.linalg.norm(offset)) * metre
        if length > 0:
            turn = least_rotation(np.array([[0.0, 1, 0]]), np.array([offset]))
            children.setdefault(p, []).append(len(nodes))
            nodes.append({"mesh": mesh, "rotation": _quaternion(turn)[0].tolist(), "scale": [length] * 3})
    for j, found in children.items():
        nodes[j + 1]["children"] = found
    time = numbers.add(np.arange(len(motion)) / motion.rate, "SCALAR")
    outputs = [(0, "translation", numbers.add(motion.place * metre, "VEC3"))]
    outputs += [(j, "rotation", numbers.add(turns[j], "VEC4")) for j in range(len(s))]
    tree = {
        "asset": {"version": "2.0", "generator": "Kuosan"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": nodes,
        "meshes": [{"name": "bone", "primitives": [{"attributes": {"POSITION": 0, "NORMAL": 1}, "indices": 2,
                                                    "material": 0}]}],
        "materials": [{"name": "bone", "pbrMetallicRoughness": {"baseColorFactor": [0.35, 0.5, 0.7, 1.0],
                                                                "metallicFactor": 0.0}}],
        "animations": [{
            "name": "motion",
            "samplers": [{"input": time, "output": at, "interpolation": "LINEAR"} for _, _, at in outputs],
            "channels": [{"sampler": k, "target": {"node": j + 1, "path": what}}
                         for k, (j, what, _) in enumerate(outputs)],
        }],
        "bufferViews": numbers.views,
        "accessors": numbers.accessors,
        "buffers": [{"byteLength": len(numbers.data)}],
    }  # fmt: skip
    text = json.dumps(tree, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    body = bytes(numbers.data)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(body), b"BIN\0") + body
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def _octahedron(numbers: _Numbers) -> int:
    """The one mesh, flat faces; accessors 0, 1 and 2 are its places, normals and indices."""
    corners = _CORNERS[np.array(_FACES).ravel()]
    sides = corners.reshape(-1, 3, 3)
    normal = np.cross(sides[:, 1] - sides[:, 0], sides[:, 2] - sides[:, 0])
    out = np.sign((normal * (sides.mean(1) - [0, 0.4, 0])).sum(1))[:, None]
    sides = np.where(out[..., None] < 0, sides[:, ::-1], sides)
    normal = normal * out / np.linalg.norm(normal, axis=1, keepdims=True)
    numbers.add(sides.reshape(-1, 3), "VEC3", target=34962)
    numbers.add(np.repeat(normal, 3, 0), "VEC3", target=34962)
    numbers.add(np.arange(len(corners)), "SCALAR", USHORT, target=34963)
    return 0


def _quaternion(turns: Array) -> Array:
    """(x, y, z, w) of rotations (F, 3, 3), each on the side of the one before: viewers go straight between them."""
    q = Rotation.from_matrix(turns).as_quat()
    flips = np.cumprod(np.where((q[1:] * q[:-1]).sum(1) < 0, -1.0, 1.0))
    return np.concatenate([q[:1], q[1:] * flips[:, None]])
