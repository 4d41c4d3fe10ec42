"""Meshes in files: OBJ, STL, PLY, OFF, GLB and glTF, by trimesh; and what is done to those that are not sound.

The axis that is up is a convention of the format: y of OBJ and glTF (whose specification says so), z of the others.
Vertices that differ in texture or normal only are joined; faces without area go; small holes are filled; faces are
made to look outwards, piece by piece.  A piece whose volume is negative is inside out, unless it lies within another:
then it is the wall of a cavity.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from kuosan.modalities.base import Unreadable
from kuosan.modalities.shape_frame import Points, turned
from kuosan.modalities.shape_raw import Cloud, Shape, Surface

UP = {".obj": "y", ".glb": "y", ".gltf": "y", ".stl": "z", ".ply": "z", ".off": "z"}
MOST_BYTES = 1 << 30
MOST_MENDED = 50_000  # faces: the repair of larger meshes would take minutes
MOST_FACES, LATTICE = 500_000, 512  # of larger meshes vertices are joined in steps of their size
FEWEST_POINTS = 32


def read_mesh(path: Path, up: str = "auto") -> Shape:
    """The mesh of a file, all parts of its scene together, or its points where it has no faces.

    Raises `Unreadable`.
    """
    import trimesh

    if path.stat().st_size == 0:
        raise Unreadable("the file is empty (0 bytes)", path)
    if path.stat().st_size > MOST_BYTES:
        raise Unreadable(f"it is larger than {MOST_BYTES >> 20} MB; decimate it", path)
    suffix = path.suffix.lower()
    try:
        scene = trimesh.load_scene(path, file_type=suffix[1:], skip_materials=True, process=False)
        meshes: list[Any] = [part for part in scene.dump() if len(getattr(part, "vertices", ()))]
    except MemoryError:
        raise Unreadable("it needs more memory than there is; decimate it", path) from None
    except Exception as error:  # readers of eight formats raise whatever they like
        raise Unreadable(f"the file is damaged ({type(error).__name__}: {error})", path) from None
    axis = UP[suffix] if up == "auto" else up
    solid = [part for part in meshes if len(getattr(part, "faces", ()))]
    if not solid:
        loose = [np.asarray(part.vertices, np.float64) for part in meshes]
        if not loose:
            raise Unreadable("its scene holds no faces and no points", path)
        return cloud(turned(np.concatenate(loose), axis), path)
    counts = np.cumsum([0, *(len(part.vertices) for part in solid)])
    vertices = np.concatenate([np.asarray(part.vertices, np.float64) for part in solid])
    faces = np.concatenate([np.asarray(p.faces, np.int64) + at for p, at in zip(solid, counts, strict=False)])
    return sound(turned(vertices, axis), faces, path)


def cloud(points: Points, path: Path | None = None) -> Cloud:
    """Points that can stand for a shape.  Raises `Unreadable`."""
    if not np.isfinite(points).all():
        raise Unreadable(f"{int((~np.isfinite(points).all(1)).sum()):,} of its points are not finite", path)
    if len(points) < FEWEST_POINTS or not np.ptp(points, axis=0).max() > 0:
        raise Unreadable(f"its {len(points)} points are too few or all in one place to be a shape", path)
    return Cloud(points.astype(np.float64))


def sound(vertices: Points, faces: NDArray[np.int64], path: Path | None = None) -> Surface:
    """A mesh that can be measured, and what was done to it.  Raises `Unreadable`."""
    import trimesh

    used = np.unique(faces)
    if len(used) and (used[0] < 0 or used[-1] >= len(vertices)):
        raise Unreadable("its faces name vertices that it does not have", path)
    if not np.isfinite(vertices[used]).all():
        bad = int((~np.isfinite(vertices[used]).all(1)).sum())
        raise Unreadable(f"{bad:,} of its {len(used):,} vertices are not finite", path)
    size = float(np.ptp(vertices[used], axis=0).max(initial=0.0))
    if len(faces) > MOST_FACES:
        vertices, faces = clustered(vertices, faces, max(size, 1e-300) / LATTICE)
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    if len(faces) <= MOST_FACES:
        mesh.merge_vertices(merge_tex=True, merge_norm=True)
    mesh.update_faces(mesh.area_faces > 1e-12 * size * size)
    if not len(mesh.faces) or not size > 0:
        raise Unreadable("it has no surface: all its faces are without area", path)
    mended: list[str] = []
    small = len(mesh.faces) <= MOST_MENDED
    closed = balanced(np.asarray(mesh.faces))
    if not closed and small and not mesh.is_winding_consistent:
        trimesh.repair.fix_winding(mesh)
        closed = balanced(np.asarray(mesh.faces))
        mended += ["turned"] if closed else []
    if not closed and small and trimesh.repair.fill_holes(mesh):
        closed = balanced(np.asarray(mesh.faces))
        mended += ["holes filled"] if closed else []
    faces = np.asarray(mesh.faces, np.int64)
    oriented = closed or bool(mesh.is_winding_consistent)
    if closed:
        flip = _inside_out(np.asarray(mesh.vertices, np.float64), faces)
        faces = np.where(flip[:, None], faces[:, ::-1], faces)
        mended += ["turned"] if flip.any() else []
    mended += [] if closed else ["open"]
    return Surface(
        np.asarray(mesh.vertices, np.float64), faces, None, closed, oriented, ", ".join(dict.fromkeys(mended))
    )


def clustered(vertices: Points, faces: NDArray[np.int64], step: float) -> tuple[Points, NDArray[np.int64]]:
    """All vertices of one cell of a lattice as one (Rossignac & Borrel 1993), and no face without area of those that
    this makes: what is balanced stays so."""
    place = np.rint(np.nan_to_num((vertices - vertices[faces].min((0, 1))) / step)).astype(np.int64)
    _, first, number = np.unique(
        place @ np.array([1 << 42, 1 << 21, 1]), return_index=True, return_inverse=True
    )
    faces = number.ravel()[faces]
    whole = (faces != np.roll(faces, 1, 1)).all(1)
    return vertices[first], faces[whole]


def balanced(faces: NDArray[np.int64]) -> bool:
    """Whether every edge is passed as often one way as the other: a surface without a border, also where more than two
    faces meet in an edge, as those of boxes that touch."""
    ends, sign, edge = _edges(faces)
    return bool((np.bincount(edge, sign, len(ends)) == 0).all())


def _edges(faces: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Every edge as a number; which way each of three edges of every face passes it, and its place among them."""
    start, stop = faces.ravel(), np.roll(faces, -1, 1).ravel()
    number = np.minimum(start, stop) * (int(faces.max()) + 1) + np.maximum(start, stop)
    ends, edge = np.unique(number, return_inverse=True)
    return ends, np.where(start < stop, 1, -1), edge.ravel()


def _inside_out(vertices: Points, faces: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The faces of pieces of a closed surface that look inwards and should not."""
    ends, _, edge = _edges(faces)
    n, nodes = len(faces), len(faces) + len(ends)  # faces, and the edges that join them
    joined = csr_array((np.ones(len(edge)), (np.repeat(np.arange(n), 3), n + edge)), (nodes, nodes))
    count, labels = connected_components(joined, directed=False)
    labels = labels[:n]
    triangles = vertices[faces]
    triangles = triangles - triangles.mean((0, 1))
    held = np.einsum("ij,ij->i", triangles[:, 0], np.cross(triangles[:, 1], triangles[:, 2])) / 6
    volumes = np.bincount(labels, held, count)
    inverted = volumes.sum() < 0
    volumes = -volumes if inverted else volumes
    low, high = (np.full((count, 3), far) for far in (np.inf, -np.inf))
    np.minimum.at(low, labels, triangles.min(1))
    np.maximum.at(high, labels, triangles.max(1))
    flip = np.full(count, inverted)
    outer = np.flatnonzero(volumes > 0)
    for piece in np.flatnonzero(volumes < 0):
        cavity = ((low[outer] < low[piece]) & (high[outer] > high[piece])).all(1).any()
        flip[piece] ^= not cavity
    return flip[labels]


def write_points(points: Points, path: Path, up: str = "auto") -> Path:
    """Writes points as PLY, with the axis up that `up` has up, in double precision, which trimesh does not: of places
    on a map single precision keeps decimetres."""
    placed = turned(points, UP[".ply"] if up == "auto" else up, back=True).astype("<f8")
    numbers = "".join(f"property double {axis}\n" for axis in "xyz")
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(placed)}\n{numbers}end_header\n"
    path.write_bytes(head.encode() + placed.tobytes())
    return path


def write_mesh(surface: Surface, path: Path, up: str = "auto") -> Path:
    """Writes what the suffix says, with the axis up that its format or `up` has up."""
    import trimesh

    suffix = path.suffix.lower()
    vertices = turned(surface.vertices, UP[suffix] if up == "auto" else up, back=True)
    mesh = trimesh.Trimesh(vertices, surface.faces, vertex_colors=surface.tints, process=False)
    exported: Any = mesh.export(file_type=suffix[1:])
    path.write_bytes(exported.encode() if isinstance(exported, str) else exported)
    return path
