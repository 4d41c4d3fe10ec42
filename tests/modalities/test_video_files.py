"""Files of clips: every format comes back, other libraries read what is written, bad files are named."""

from __future__ import annotations

import math
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from kuosan.errors import UserError
from kuosan.modalities import Clip, ImageFormat, Unreadable, VideoFormat, VideoModality
from kuosan.modalities.video_clip import clip_of
from kuosan.modalities.video_file import footage, is_animated
from kuosan.modalities.video_time import resampled
from kuosan.modalities.video_write import WRITTEN, playing, write_clip
from tests.modalities.video import ball


def read(path: Path) -> Clip:
    found = footage(path)
    rate = found.rate or 8.0
    return clip_of(resampled(found.frames(), found.rate or 1.0, 1 / (found.rate or 1.0)), rate)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * math.log10(255**2 / max(1e-9, np.square(a.astype(float) - b.astype(float)).mean()))


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("suffix", [".webp", ".apng", ".frames"])
def test_what_is_written_without_loss_comes_back(tmp_path: Path, suffix: str, channels: int) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (5, 7, 9, channels)).astype(np.uint8)
    frames[..., 3:] = rng.integers(0, 2, (5, 7, 9, channels - 3)) * rng.integers(1, 256)
    if channels == 4:
        frames[frames[..., 3] == 0] = 0
    clip = Clip(frames, {3: "RGB", 4: "RGBA"}[channels], 8.0)
    path = write_clip(clip, tmp_path / f"x{suffix}")
    assert read(path).same(clip)
    assert path.is_dir() or is_animated(path)


@pytest.mark.parametrize("rate", [5.0, 8.0, 12.0, 25.0, 12.5])
@pytest.mark.parametrize("suffix", [".mp4", ".webp", ".apng", ".gif"])
def test_the_rate_comes_back(tmp_path: Path, suffix: str, rate: float) -> None:
    clip = ball(1, 10, rate=rate)
    back = read(write_clip(clip, tmp_path / f"x{suffix}"))
    assert len(back) == 10 and back.rate == pytest.approx(rate, rel=0.02)


def test_a_gif_of_few_colours_comes_back_whole_and_transparent(tmp_path: Path) -> None:
    frames = np.zeros((3, 8, 8, 4), np.uint8)
    for i, colour in enumerate([(255, 0, 0, 255), (0, 255, 0, 255), (0, 0, 255, 255)]):
        frames[i, 2 + i : 4 + i, 2:6] = colour
    clip = Clip(frames, "RGBA", 10.0)
    assert read(write_clip(clip, tmp_path / "x.gif")).same(clip)


@pytest.mark.parametrize("side", [15, 16])
def test_another_library_plays_the_film(tmp_path: Path, side: int) -> None:
    clip = ball(2, 8, side, rate=12.0)
    film = cv2.VideoCapture(str(write_clip(clip, tmp_path / "x.mp4")))
    assert film.get(cv2.CAP_PROP_FPS) == pytest.approx(12.0)
    assert int(film.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little") in (b"avc1", b"h264")
    frames = []
    while (found := film.read())[0]:
        frames.append(found[1][:side, :side, ::-1])
    assert film.get(cv2.CAP_PROP_FRAME_WIDTH) == side + side % 2 and len(frames) == 8
    luma = np.array([0.299, 0.587, 0.114])  # colours have a quarter of the pixels
    assert psnr(np.stack(frames) @ luma, clip.frames @ luma) > 32 and psnr(np.stack(frames), clip.frames) > 20


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".apng"])
def test_another_library_plays_the_animation(tmp_path: Path, suffix: str) -> None:
    clip = ball(3, 6)
    path = write_clip(clip, tmp_path / f"x{suffix}")
    if suffix == ".apng":  # which it knows by the name of a picture
        path = path.rename(tmp_path / "x.png")
    fine, found = cv2.imreadanimation(str(path))
    assert fine and len(found.frames) == 6
    frames = np.stack([frame[..., 2::-1] for frame in found.frames])
    assert psnr(frames, clip.frames) > (35 if suffix == ".gif" else 90)


def test_films_come_upright_and_in_square_pixels(tmp_path: Path) -> None:
    clip = ball(4, 3, 16)
    path = write_clip(Clip(clip.frames[:, :, :12].repeat(2, 1), "RGB", 8.0), tmp_path / "x.mp4")
    plain, data = read(path), path.read_bytes()
    one, none = (1 << 16).to_bytes(4, "big"), bytes(4)
    straight = one + none * 3 + one + none * 3 + (1 << 30).to_bytes(4, "big")
    turned = none + one + none + (-(1 << 16)).to_bytes(4, "big", signed=True) + none * 4 + straight[-4:]
    place = data.rfind(straight)  # the matrix of the track (ISO/IEC 14496-12, 8.3.2)
    path.write_bytes(data[:place] + turned + data[place + len(straight) :])
    film = cv2.VideoCapture(str(path))
    theirs = film.read()[1][..., ::-1]
    mine = read(path).frames
    assert mine.shape[1:3] == theirs.shape[:2] == plain.frames.shape[2:0:-1]
    assert psnr(mine[0], theirs) > 30

    with av.open(str(tmp_path / "wide.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.height, stream.width, stream.pix_fmt = 16, 16, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)
        for frame in clip.frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    wide = read(tmp_path / "wide.mp4").frames
    assert wide.shape[1:3] == (16, 32) and psnr(wide[:, :, ::2], clip.frames) > 25


def test_bad_files_are_named(tmp_path: Path) -> None:
    film = write_clip(ball(5, 40, 32), tmp_path / "x.mkv").read_bytes()
    bad = {
        "empty.mp4": b"",
        "noise.mp4": np.random.default_rng(0).bytes(2000),
        "text.avi": b"no film at all",
        "cut.mp4": write_clip(ball(5, 40, 32), tmp_path / "y.mp4").read_bytes()[:3000],
        "cut.mkv": film[: len(film) // 2],
        "cut.webp": write_clip(ball(6), tmp_path / "z.webp").read_bytes()[:400],
    }
    for name, content in bad.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(Unreadable, match=r"empty|damaged|truncated|no frame|not a picture"):
            read(path)
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(Unreadable, match="sound alone"):
        read(tmp_path / "sound.mp4")


def test_a_still_is_no_clip_and_two_frames_are(tmp_path: Path) -> None:
    Image.fromarray(ball(7, 1).frames[0]).save(tmp_path / "one.gif")
    assert not is_animated(tmp_path / "one.gif")
    with pytest.raises(Unreadable, match="two or more"):
        read(tmp_path / "one.gif")
    assert len(read(write_clip(ball(8, 2), tmp_path / "two.mp4"))) == 2


def test_uneven_durations_are_kept(tmp_path: Path) -> None:
    images = [Image.fromarray(f) for f in ball(9, 3).frames]
    images[0].save(
        tmp_path / "x.webp", save_all=True, append_images=images[1:], duration=[100, 300, 200], lossless=True
    )
    back = read(tmp_path / "x.webp")
    assert back.rate == 10 and np.array_equal(back.frames, ball(9, 3).frames[[0, 1, 1, 1, 2, 2]])


def test_animations_need_no_films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = write_clip(ball(1), tmp_path / "x.mp4")
    frame = ImageFormat(16, 16, 3, "RGB", "uint8", 0.0, 255.0)
    modality = VideoModality(VideoFormat(8, 8.0, frame))
    monkeypatch.setitem(sys.modules, "av", None)
    assert modality.formats[0] == "webp" and read(modality.write(ball(1), tmp_path / "y")).same(ball(1))
    for call in (lambda: read(film), lambda: write_clip(ball(1), tmp_path / "z.mp4")):
        with pytest.raises(UserError, match=r"pip install 'kuosan\[video\]'"):
            call()


def test_unknown_formats_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=", ".join(WRITTEN)):
        write_clip(ball(0), tmp_path / "x.xyz")


def test_what_plays_in_a_page_is_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = Clip(rng.integers(0, 256, (16, 64, 64, 3)).astype(np.uint8), "RGB", 8.0)
    for clip in (ball(1, 4), noise):
        kind, content = playing(clip)
        (tmp_path / "x.webp").write_bytes(content)
        assert kind == "image/webp" and len(content) < 400_000 and len(read(tmp_path / "x.webp")) == len(clip)
