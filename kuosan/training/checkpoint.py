"""Checkpoints that cannot be half written, and files that know whether they are whole.

A checkpoint is a folder with two files: ``state.json``, everything that is not a tensor, and the tensors
file that it names, with the SHA-256 of that file and of itself. Writing goes: tensors to a new name, fsync, read
back and compare, then ``state.json`` to a temporary name, fsync, rename. The rename is the commit: killed
before it, the old checkpoint stands; killed after it, the new one. The old tensors are deleted last.

Of a state that several processes share, the tensors are a folder of files (`shards`) instead, the first or the second
of two in turn; all else is the same, and `load` reads either kind whole.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from kuosan.errors import UserError
from kuosan.training import shards
from kuosan.training.parallel import World
from kuosan.training.sharding import own

STATE = "state.json"
PLACES = ("shards-a", "shards-b")
_HEADER = "kuosan"


class NotFiniteError(ValueError):
    """A state that must not be saved."""


def write_bytes(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data`` so that at any moment either the old or the new file is there, whole.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if temporary.read_bytes() != data:
            raise OSError(errno.EIO, "what was written reads back differently")
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as e:
        with suppress(OSError):  # there may not even be a folder
            temporary.unlink(missing_ok=True)
        raise _unwritten(path, e) from e


def _unwritten(path: Path, e: OSError) -> UserError:
    why = "the disk is full" if e.errno in (errno.ENOSPC, errno.EDQUOT) else (e.strerror or str(e))
    return UserError(
        f"{path} could not be written: {why}; what was there before is kept, so make room or choose another --out and "
        "run the same command again"
    )


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """As `write_bytes`, in a form that people can read."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def _seal(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def save(folder: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write a checkpoint over the one in ``folder``.

    Raises:
        NotFiniteError: a tensor is not finite; nothing was written.
        UserError: the disk is full, or the folder cannot be written; the old checkpoint stands.
    """
    if bad := _not_finite(tensors):
        raise NotFiniteError(bad)
    data = safetensors.torch.save({k: v.detach().contiguous().cpu() for k, v in tensors.items()})
    digest = hashlib.sha256(data).hexdigest()
    name = f"state-{digest[:16]}.safetensors"
    state = {**state, "tensors": {"file": name, "sha256": digest}}
    try:
        if not ((folder / name).exists() and (folder / name).read_bytes() == data):
            write_bytes(folder / name, data)
        write_json(folder / STATE, {**state, "seal": _seal(state)})
    except UserError:
        if _tensors_of(folder) != name:  # no use to anybody, and the disk may be full
            with suppress(OSError):
                (folder / name).unlink(missing_ok=True)
        raise
    _forget_all_but(folder, name)


def _forget_all_but(folder: Path, name: str) -> None:
    """Remove tensors that no committed state names any more."""
    for old in folder.glob("state-*.safetensors"):
        if old.name != name:
            old.unlink(missing_ok=True)
    for place in PLACES:
        if place != name:
            shutil.rmtree(folder / place, ignore_errors=True)
    for left in folder.glob(".*.tmp"):
        left.unlink(missing_ok=True)


def _not_finite(tensors: Mapping[str, Tensor]) -> str:
    """What is wrong with them; "" where nothing is."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(own(tensor)).all()):
            return f"the weights were not finite ({name}) and were not saved"
    return ""


def save_together(
    folder: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any], world: World
) -> None:
    """As `save`, of tensors that processes share out among themselves: all of them call this, and raise alike."""
    if bad := next(filter(None, world.hear(_not_finite(tensors))), ""):
        raise NotFiniteError(bad)
    name = world.tell(next(place for place in PLACES if place != _tensors_of(folder)))
    with _alike(folder / name, world):
        if world.leads:
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / name).mkdir(parents=True)
    with _alike(folder / name, world):
        shards.write(folder / name, tensors)
    with _alike(folder / STATE, world):
        if world.leads:
            state = {**state, "tensors": {"folder": name, "files": shards.settle(folder / name)}}
            write_json(folder / STATE, {**state, "seal": _seal(state)})
            _forget_all_but(folder, name)


@contextmanager
def _alike(path: Path, world: World) -> Iterator[None]:
    """What one process cannot write, none of them could."""
    why = ""
    try:
        yield
    except OSError as e:
        why = str(_unwritten(path, e))
    except UserError as e:
        why = str(e)
    if why := next(filter(None, world.hear(why)), ""):
        raise UserError(why)


def exists(folder: Path) -> bool:
    """Whether a checkpoint was ever committed here."""
    return (folder / STATE).is_file()


def _tensors_of(folder: Path) -> str:
    """The file that the committed state names; "" where there is none."""
    try:
        return _named(json.loads((folder / STATE).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The checkpoint in ``folder``, verified, whole, while another process may be writing the next one.

    Raises:
        UserError: it is damaged; nothing is deleted.
    """
    state, path = _committed(folder)
    try:
        return _contents(path, state["tensors"]), state
    except UserError:
        if _committed(folder)[0] == state:
            raise
        return load(folder)  # the next one was committed meanwhile, and the tensors of this one removed


def _contents(path: Path, told: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors that a state tells of."""
    with _reading(path):
        if "folder" in told:
            return shards.read(_verified(path, told))
        data = path.read_bytes()
        _same(hashlib.sha256(data).hexdigest(), told["sha256"])
        return safetensors.torch.load(data)


def load_together(
    folder: Path, into: Callable[[dict[str, Any]], dict[str, Tensor]], world: World
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """As `load`, into what each process holds of the tensors: ``into`` makes it of their names, shapes and types."""
    state = None
    if world.leads:
        state, path = _committed(folder)
        with _reading(path):
            _forget_all_but(folder, path.name)  # or they would be read as parts
            _verified(path, state["tensors"])
    state = world.tell(state)
    place = folder / state["tensors"].get("folder", "")
    return shards.read(place, into(shards.forms(place))), state


def _committed(folder: Path) -> tuple[dict[str, Any], Path]:
    """The state, and where it says that its tensors are."""
    with _reading(folder / STATE):
        state: dict[str, Any] = json.loads((folder / STATE).read_bytes())
        _same(state.pop("seal"), _seal(state))
        return state, folder / _named(state)


def _named(state: Mapping[str, Any]) -> str:
    told = state["tensors"]
    return str(told["folder"] if "folder" in told else told["file"])


def _verified(path: Path, told: Mapping[str, Any]) -> Path:
    """The same path, if what is there is what a state says."""
    if "folder" in told:
        _same(shards.settle(path), told["files"])
    else:
        _same(hashlib.sha256(path.read_bytes()).hexdigest(), told["sha256"])
    return path


def _same(found: Any, told: Any) -> None:
    if found != told:
        raise ValueError("its contents do not match its checksum")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as e:
        raise UserError(
            f"the checkpoint {path} is damaged ({_short(e)}): nothing was changed; restore the file from a copy, "
            f"or remove the folder {path.parent} to go on without it"
        ) from e


def _short(e: Exception) -> str:
    return (
        (e.strerror or str(e))
        if isinstance(e, OSError)
        else (str(e) or type(e).__name__).splitlines()[0][:120]
    )


def save_weights(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Weights in one safetensors file that stands alone, its checksum in its own header."""
    whole = {k: v.detach().contiguous().cpu() for k, v in tensors.items()}
    told = json.dumps(about, sort_keys=True)
    # One entry: safetensors writes several in an order of its own, and equal weights are to be equal files.
    header = json.dumps({"about": told, "sha256": _digest(whole, told)})
    write_bytes(path, safetensors.torch.save(whole, metadata={_HEADER: header}))


def load_weights(path: Path) -> dict[str, Tensor]:
    """The weights of `save_weights`, or of any safetensors file, verified where it carries a checksum."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(_HEADER, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        if "sha256" in header and header["sha256"] != _digest(tensors, header.get("about", "")):
            raise ValueError("its contents do not match its checksum")
    except (OSError, ValueError, SafetensorError) as e:
        raise UserError(
            f"the weights {path} cannot be read ({_short(e)}): restore the file from a copy, or run "
            "`kuosan resume` on the run's folder to write it anew"
        ) from e
    return tensors


def _digest(tensors: Mapping[str, Tensor], about: str) -> str:
    sha = hashlib.sha256(about.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()
