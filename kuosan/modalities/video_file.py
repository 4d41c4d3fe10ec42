"""Moving pictures from files: containers (MP4, MKV, MOV, WebM, AVI …), animations (GIF, WebP, APNG), folders of frames.

Containers are decoded by PyAV, which brings FFmpeg along; animations and frames by Pillow. Frames come upright (a
phone's turn applied) and in square pixels. Each source tells its moments and decodes one frame at a time, so that an
hour of film needs no more memory than a second. All that a damaged file can do ends in `Unreadable`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kuosan.errors import UserError
from kuosan.modalities.base import Unreadable
from kuosan.modalities.kinds import kind_of
from kuosan.modalities.picture_file import MAX_PIXELS, named_errors, peek, read_picture
from kuosan.modalities.pixels import CHANNELS, Header, Picture
from kuosan.modalities.video_time import Shown

ANIMATED = (".gif", ".webp", ".png", ".apng")
UNTIMED = 0.1  # seconds of a frame for which a GIF says 0, as browsers have it
_ROUNDED = 0.0101  # seconds by which durations may differ and still be one rate: GIF counts in hundredths
_SHORT = 0.8  # a file that holds less than this part of the time that it promises was cut off
_NUMBER = re.compile(r"^(.*?)(\d+)$", re.ASCII)
_AV_FORMATS = {"L": "gray", "RGB": "rgb24", "RGBA": "rgba"}


@dataclass(frozen=True, eq=False)
class Footage:
    """Frames of one source.

    `header` is the form of one, `count` how many there are (about), `rate` for how many a second they were made (None:
    not said, and times count frames), `frames` decodes them anew at every call.
    """

    header: Header
    count: int
    rate: float | None
    frames: Callable[[], Iterator[Shown]]


def footage(path: Path) -> Footage:
    """What a file or a folder of frames holds.  Raises `Unreadable`; `UserError` without PyAV."""
    if path.is_dir():
        return _folder(path)
    with _named(path):
        return _animation(path) if path.suffix.lower() in ANIMATED else _container(path)


def is_animated(path: Path) -> bool:
    """Whether a picture file moves: told by its first bytes, of a GIF by its first two frames."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
        if head.startswith(b"RIFF"):
            return head[12:16] == b"VP8X" and bool(head[20] & 2)
        if head.startswith(b"\x89PNG"):
            return b"acTL" in head.partition(b"IDAT")[0]
        if head.startswith(b"GIF8"):
            with Image.open(path) as image:
                return bool(getattr(image, "is_animated", False))
    except Exception:  # decoders raise anything on damaged files, which are named when they are read
        return False
    return False


def numbered(folder: Path) -> list[Path]:
    """The frames of a folder in order: its pictures, where all are called by one word and a number; else none."""
    pictures = [p for p in folder.iterdir() if kind_of(p.name) == "image" and not p.name.startswith(".")]
    words = {(match[1], p.suffix.lower()) if (match := _NUMBER.match(p.stem)) else None for p in pictures}
    return sorted(pictures, key=number_of) if len(words) == 1 and None not in words else []


def number_of(frame: Path) -> int:
    """The number at the end of a frame's name; -1 without."""
    match = _NUMBER.match(frame.stem)
    return int(match[2]) if match else -1


def pyav() -> Any:
    """The library that reads and writes containers.

    Raises:
        UserError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise UserError(
            "films (MP4, MKV, MOV, WebM, AVI) need PyAV, which is not installed: pip install 'kuosan[video]'"
        ) from error
    return av


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What Pillow and FFmpeg say of a bad file as `Unreadable`."""
    try:
        with named_errors(path):
            yield
    except Unreadable as error:
        if type(error.__context__).__name__ == "InvalidDataError":
            raise Unreadable("the file is damaged, or no film at all", path) from None
        raise


def _guarded(path: Path, frames: Iterator[Shown]) -> Iterator[Shown]:
    """The same frames; what goes wrong in decoding one is named."""
    while True:
        with _named(path):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def _container(path: Path) -> Footage:
    if path.stat().st_size == 0:
        raise Unreadable("the file is empty (0 bytes)")
    with pyav().open(str(path)) as container:
        stream = _stream(container)
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        first = next(iter(container.decode(stream)), None)
        if first is None:
            raise Unreadable("it holds no frame that can be decoded")
        seconds = _promised(container, stream)
        if first.width * first.height > MAX_PIXELS:
            raise Unreadable(f"its frames of {first.width}×{first.height} are far too large")
        picture = _upright(first, stream.sample_aspect_ratio)
        count = stream.frames or round((seconds or 1 / rate) * rate)
    h, w, c = picture.pixels.shape
    header = Header(h, w, c, picture.mode, "uint8")
    return Footage(header, max(1, count), rate, lambda: _guarded(path, _decoded(path, rate, seconds)))


def _stream(container: Any) -> Any:
    stream = container.streams.best("video")
    if stream is None or stream.disposition & pyav().stream.Disposition.attached_pic:
        raise Unreadable("it holds sound alone, no moving picture")
    stream.thread_type = "AUTO"
    return stream


def _promised(container: Any, stream: Any) -> float | None:
    """Seconds that a container says its pictures last; None where it does not say."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    alone = len(container.streams) == 1
    return container.duration / 1e6 if alone and container.duration else None


def _decoded(path: Path, rate: float, seconds: float | None) -> Iterator[Shown]:
    first = time = None
    with pyav().open(str(path)) as container:
        stream = _stream(container)
        aspect = stream.sample_aspect_ratio
        for number, frame in enumerate(container.decode(stream)):
            time = number / rate if frame.time is None else frame.time
            first = time if first is None else first
            yield time, partial(_upright, frame, aspect)
    shown = 1 / rate + (time or 0.0) - (first or 0.0)
    if seconds is not None and shown < _SHORT * seconds - 1 / rate:
        raise Unreadable(f"it ends too early (truncated): {shown:.1f} of {seconds:.1f} seconds are there")


def _upright(frame: Any, aspect: Any) -> Picture:
    """A frame in square pixels, turned as its container says."""
    alpha = any(component.is_alpha for component in frame.format.components)
    mode = "RGBA" if alpha else "L" if frame.format.name.startswith("gray") else "RGB"
    width = round(frame.width * float(aspect)) if aspect else frame.width
    pixels = frame.reformat(max(1, width), frame.height, _AV_FORMATS[mode]).to_ndarray()
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    return Picture(np.ascontiguousarray(np.rot90(pixels, round((frame.rotation or 0) / 90))), mode)


def _animation(path: Path) -> Footage:
    header, durations, alpha = peek(path), [], False
    with Image.open(path) as image:
        for i in range(getattr(image, "n_frames", 1)):
            image.seek(i)
            image.load()
            durations.append(float(image.info.get("duration", 0)) / 1000 or UNTIMED)
            if image.has_transparency_data and not alpha:
                alpha = image.convert("RGBA").getchannel("A").getextrema() != (255, 255)
    mode = "RGBA" if alpha else "RGB"
    header = Header(header.height, header.width, CHANNELS[mode], mode, "uint8")
    rate, even = _rate(durations)
    times = np.arange(len(durations)) / rate if even else np.cumsum([0.0, *durations[:-1]])
    held = 0.0 if even else durations[-1] - 1 / rate
    count = len(durations) if even else round(sum(durations) * rate)
    return Footage(header, count, rate, lambda: _guarded(path, _animated(path, mode, times.tolist(), held)))


def _rate(durations: list[float]) -> tuple[float, bool]:
    """Frames a second, and whether all last equally long but for rounding; else the shortest tells."""
    even = max(durations) - min(durations) < _ROUNDED
    rate = len(durations) / sum(durations) if even else 1 / min(durations)
    whole = max(1, round(rate))
    return (float(whole) if abs(rate / whole - 1) < 0.02 else round(rate, 3)), even


def _animated(path: Path, mode: str, times: list[float], held: float) -> Iterator[Shown]:
    """The frames at their times; the last one is shown once more, `held` seconds later, where that is long."""
    with Image.open(path) as image:
        for i, time in enumerate(times):
            image.seek(i)
            shown = partial(Picture, np.array(image.convert(mode)), mode)
            yield time, shown
        if held > 0:
            yield times[-1] + held, shown


def _folder(path: Path) -> Footage:
    files = numbered(path)
    if not files:
        raise Unreadable("its pictures are not numbered alike (000.png, 001.png …)", path)
    return Footage(
        peek(files[0]),
        len(files),
        None,
        lambda: ((float(i), partial(read_picture, file)) for i, file in enumerate(files)),
    )
