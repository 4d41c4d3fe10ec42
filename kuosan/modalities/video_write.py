"""Clips as files that play: MP4 (H.264), GIF, WebP and APNG, or a folder of PNG frames.

    .mp4      every player has it; 4:2:0 colour and quantised, so near and not equal; sides are made even at the edges
    .webp     without loss, alpha included
    .apng     without loss, alpha included
    .gif      without loss up to 256 colours a frame, else dithered; transparent or not, nothing between
    .frames   a folder NAME/ of 000.png, 001.png …, without loss

Containers have no transparency here: MP4 shows a clip over white, as `convert` does.
"""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kuosan.errors import UserError
from kuosan.modalities.pixels import convert
from kuosan.modalities.video_clip import Clip
from kuosan.modalities.video_file import pyav

WRITTEN = ("mp4", "webp", "gif", "apng", "frames")
QUALITY = 14  # of H.264, its constant rate factor: 0 loses nothing, 51 all; about 40 dB
_GIF = 100  # ticks of a second
_SHOWN = 96  # pixels of the longer side, at least, of what plays in a report
_BYTES = 200_000  # of it


def write_clip(clip: Clip, path: Path) -> Path:
    """Writes a clip in the format of the path's suffix; the path written.

    Raises:
        UserError: an unknown suffix, or PyAV is not installed.
    """
    match path.suffix.lower():
        case ".mp4" | ".mov" | ".mkv":
            _write_film(clip, path)
        case ".gif" | ".webp" | ".apng" | ".png":
            path.write_bytes(animation(clip, path.suffix.lower()[1:]))
        case ".frames":
            path = path.with_suffix("")
            path.mkdir(parents=True, exist_ok=True)
            digits = max(3, len(str(len(clip) - 1)))
            for i, image in enumerate(_images(clip)):
                image.save(path / f"{i:0{digits}d}.png")
        case suffix:
            raise UserError(f"clips are not written as {suffix}: choose one of {', '.join(WRITTEN)}")
    return path


def animation(clip: Clip, kind: str, **options: Any) -> bytes:
    """A clip as a GIF, a WebP or an APNG that repeats for ever; `options` are Pillow's."""
    images, out = _images(clip), io.BytesIO()
    kind = "png" if kind == "apng" else kind
    ticks = _GIF if kind == "gif" else 1000
    ends = [round((i + 1) * ticks / clip.rate) * 1000 // ticks for i in range(len(clip))]
    usual: dict[str, Any] = {"lossless": True} if kind == "webp" else {}
    if kind == "gif":
        images, usual = [_all_or_nothing(image) for image in images], {"disposal": 2}
    images[0].save(
        out, kind, save_all=True, append_images=images[1:], loop=0,
        duration=[int(n) for n in np.diff([0, *ends])], **(usual | options),
    )  # fmt: skip
    return out.getvalue()


def playing(clip: Clip) -> tuple[str, bytes]:
    """A small animation of a clip for a page: what it is, and its bytes."""
    longest = max(clip.frames.shape[1:3])
    scale = max(1, -(-_SHOWN // longest))
    frames = clip.frames.repeat(scale, 1).repeat(scale, 2)
    large = Clip(frames, clip.mode, clip.rate)
    whole = animation(large, "webp")
    return "image/webp", whole if len(whole) <= _BYTES else animation(
        large, "webp", lossless=False, quality=70
    )


def _images(clip: Clip) -> list[Image.Image]:
    mode = {"LA": "RGBA"}.get(clip.mode, clip.mode)
    frames = convert(clip.frames, clip.mode, mode, "uint8")
    return [Image.fromarray(np.ascontiguousarray(f[..., 0] if mode == "L" else f)) for f in frames]


def _all_or_nothing(image: Image.Image) -> Image.Image:
    """A frame that is transparent or not, nothing between, which is all that a GIF can hold."""
    if image.mode != "RGBA":
        return image
    pixels = np.array(image)
    pixels[..., 3] = np.where(pixels[..., 3] >= 128, 255, 0)
    pixels[pixels[..., 3] == 0] = 0
    return Image.fromarray(pixels)


def _write_film(clip: Clip, path: Path) -> None:
    frames = convert(clip.frames, clip.mode, "RGB", "uint8")
    odd = [(0, side % 2) for side in frames.shape[1:3]]
    frames = np.pad(frames, ((0, 0), *odd, (0, 0)), mode="edge")
    av = pyav()
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=Fraction(clip.rate).limit_denominator(1001), options={"crf": str(QUALITY)}
        )
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for pixels in frames:
            for packet in stream.encode(
                av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            ):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
