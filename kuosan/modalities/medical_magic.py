"""Whether a file is DICOM, whatever it is called: scanners leave suffixes away."""

from __future__ import annotations

from pathlib import Path

MAGIC, PREAMBLE = b"DICM", 128  # PS3.10, 7.1


def is_dicom(path: Path) -> bool:
    """Told by its magic number; an index of files (DICOMDIR) is not one."""
    try:
        with path.open("rb") as file:
            return file.read(PREAMBLE + len(MAGIC))[PREAMBLE:] == MAGIC and path.name.upper() != "DICOMDIR"
    except OSError:
        return False
