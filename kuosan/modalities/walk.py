"""Every file under a path, once, in a stable order, without ever walking in a circle.

People's folders hold links to themselves, pipes, broken links and names that are not text.  The walk visits
real folders first and linked ones afterwards, so that a folder reached twice is read under its own name;
whatever cannot be read is listed with a plain reason and nothing is opened that could block.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from kuosan.errors import UserError
from kuosan.modalities.base import Skip
from kuosan.modalities.kinds import is_ignored, kind_of

LOOP = "a symbolic link that leads back to itself"


@dataclass(frozen=True)
class Found:
    """One file: its name relative to the data folder with '/' between parts, where it is, and its kind."""

    name: str
    path: Path
    kind: str | None


@dataclass(frozen=True)
class Listing:
    """All files under `root`, sorted by name; `failed` are data files, `aside` anything else."""

    root: Path
    found: tuple[Found, ...]
    failed: tuple[Skip, ...]
    aside: tuple[Skip, ...]


def readable_name(path: str) -> str:
    """A name as text: bytes that are not UTF-8 are shown as '�', so that JSON and HTML can hold it."""
    return os.fsencode(path).decode("utf-8", "replace")


def walk(data: Path | str) -> Listing:
    """Lists a file or a folder.  Raises `UserError` where the path is missing or cannot be entered."""
    root = Path(data).expanduser()
    try:
        is_folder = stat.S_ISDIR(root.stat().st_mode)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UserError(f"{root} is {LOOP}; give the folder that holds the data.") from None
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise UserError(f"There is no file or folder at {root}; check the path of the data.") from None
        raise UserError(f"{root} cannot be read ({error.strerror}); check its permissions.") from None
    if not is_folder:
        return Listing(root.parent, (Found(readable_name(root.name), root, kind_of(root.name)),), (), ())
    try:
        os.scandir(root).close()
    except OSError as error:
        raise UserError(f"The folder {root} cannot be opened ({error.strerror}); check it.") from None
    return _Walker(root).listing()


class _Walker:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.found: list[Found] = []
        self.failed: list[Skip] = []
        self.aside: list[Skip] = []

    def listing(self) -> Listing:
        seen = {_identity(self.root.stat()): "."}
        linked = self._descend([(self.root, "")], seen)
        while linked:
            path, name = linked.pop(0)
            identity = _identity(path.stat())
            if _leads_up(path):
                self.aside.append((name, LOOP))
                continue
            if identity in seen:
                self.aside.append((name, f"a link to {seen[identity]}, which is read already"))
                continue
            seen[identity] = name
            linked += self._descend([(path, name + "/")], seen)
            linked.sort(key=lambda item: item[1])
        order = sorted(self.found, key=lambda found: found.name)
        return Listing(self.root, tuple(order), tuple(sorted(self.failed)), tuple(sorted(self.aside)))

    def _descend(
        self, stack: list[tuple[Path, str]], seen: dict[tuple[int, int], str]
    ) -> list[tuple[Path, str]]:
        """Walks real folders; returns the linked ones that it met, for later."""
        linked = []
        while stack:
            folder, prefix = stack.pop()
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError as error:
                self.aside.append((prefix.rstrip("/"), f"the folder cannot be opened ({error.strerror})"))
                continue
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                name = prefix + readable_name(entry.name)
                try:
                    mode = entry.stat().st_mode
                except OSError as error:
                    self._fail(name, LOOP if error.errno == errno.ELOOP else _link_reason(entry, error))
                    continue
                if is_ignored(entry.name, stat.S_ISDIR(mode)):
                    continue
                if stat.S_ISDIR(mode):
                    identity = _identity(entry.stat())
                    if entry.is_symlink():
                        linked.append((Path(entry.path), name))
                    elif identity not in seen:
                        seen[identity] = name
                        stack.append((Path(entry.path), name + "/"))
                elif stat.S_ISREG(mode):
                    self.found.append(Found(name, Path(entry.path), kind_of(entry.name)))
                else:
                    self._fail(name, "not a regular file but a pipe, a socket or a device")
        return linked

    def _fail(self, name: str, reason: str) -> None:
        (self.failed if kind_of(name) is not None else self.aside).append((name, reason))


def _leads_up(link: Path) -> bool:
    """True where a linked folder is one of the folders that the link lies in: entering it would not end."""
    real = Path(os.path.realpath(link))
    return real == Path(os.path.realpath(link.parent)) or real in Path(os.path.realpath(link.parent)).parents


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _link_reason(entry: os.DirEntry[str], error: OSError) -> str:
    if entry.is_symlink() and error.errno in (errno.ENOENT, errno.ENOTDIR):
        return "a symbolic link to a file that is not there"
    return f"cannot be opened ({error.strerror})"
