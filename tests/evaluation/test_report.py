"""Laws of the report: it needs nothing but itself, hides nothing, and says only what the numbers allow."""

from __future__ import annotations

import base64
import dataclasses
import io
import math
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kuosan.evaluation import plots
from kuosan.evaluation.report import ReportFacts, picture, render_report, write_report
from kuosan.evaluation.report_data import survey_view
from kuosan.evaluation.report_section import Section
from kuosan.evaluation.verdict import Finding

NASTY = '<script>alert("x")</script>'
pytestmark = pytest.mark.usefixtures("every_chart")


def grey(seed: int, size: int = 8) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size), dtype=np.uint8))


def metric(**changes: Any) -> dict[str, Any]:
    base = {
        "value": 3.41,
        "stderr": 0.12,
        "n": 1437,
        "space": "encoder",
        "better": "lower",
        "note": "held out",
    }
    return {**base, "floor": 2.42, "floor_stderr": 0.09, **changes}


def _dot(axes: Any) -> None:
    axes.plot([0], [0], marker="o")


def full() -> ReportFacts:
    log: list[dict[str, Any]] = [
        {"step": s, "seconds": s / 10, "loss": 1 / (1 + s / 50)} for s in range(0, 500, 5)
    ]
    for s in (0, 200, 400):
        levels = [[x, 0.1 + 1 / (1 + math.exp(x))] for x in range(-6, 7, 2)]
        log.append(
            {"step": s, "val_loss": 1 / (1 + s / 50), "val_stderr": 0.01, "val_n": 97, "val_by_level": levels}
            | {
                "val_change": -0.01,
                "val_change_stderr": 0.002,
                "sample_fd": 9 / (1 + s / 50),
                "sample_fd_stderr": 0.1,
            }
            | {"sample_fd_floor": 0.4, "sample_fd_floor_stderr": 0.05}
        )
    ts = [i / 20 for i in range(21)]
    return ReportFacts(
        title="Digits",
        subtitle="8×8",
        created="2026-01-14",
        command="kuosan train digits",
        verdict=[Finding("Likeness", NASTY, "fair"), Finding("Copies", "Not known.", "unknown")],
        headlines=["1,437 pictures of 8×8."],
        survey={
            "files": 12,
            "items": 11,
            "classes": {"class": {NASTY: 7, "b": 4}},
            "sizes": {"8×8": 11},
            "skipped": [(f"{NASTY}.png", "zero bytes")],
            "notes": [f"note {NASTY}"],
            "choices": [("size", "8×8", "native")],
        },
        choices=[("network", "transformer", NASTY)],
        previews=[(s, NASTY, grey(s)) for s in (0, 100, 200)],
        denoising=[(t, grey(1), grey(2)) for t in (1.0, 0.5, 0.0)],
        log=log,
        curves={
            "alpha": [(t, 1 - t) for t in ts],
            "sigma": [(t, t) for t in ts],
            f"my {NASTY} $x": [(t, t) for t in ts],
        },
        metrics={
            "fd_encoder": metric(),
            "kd_pixels": metric(value=1e-4, floor=None, n=211),
            "odd": metric(n=31),
        },
        samples=[("all", grey(3, 64)), (NASTY, grey(4))],
        nearest=[
            {"sample": grey(5), "neighbour": grey(6), "distance": 9.0, "threshold": 5.0, "percentile": 3.0},
            {"sample": grey(5), "neighbour": grey(6), "distance": 1.0, "threshold": 5.0, "name": NASTY},
        ],
        left_out={"fd_inf": NASTY},
        shows=[Section("shown", "Shown", "Shown", ["words"], [("", grey(9))])],
        sections=[
            Section(
                "mine", NASTY, NASTY, [NASTY], [(NASTY, grey(7)), ("chart", plots.draw("c", NASTY, _dot))]
            )
        ],
        events=[NASTY],
        environment={"torch": "2.13.0", "machine": NASTY},
        citations=["@article{x, title={" + NASTY + "}}"],
    )


class Tags(HTMLParser):
    """Every tag with its attributes, and whether the tags close in order."""

    VOID = {"meta", "link", "img", "br", "input"}

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.balanced = True
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.balanced &= bool(self.open) and self.open.pop() == tag


@cache
def rendered() -> str:
    return render_report(full())


@pytest.fixture
def page(every_chart: None) -> str:
    return rendered()


def test_it_is_one_file_that_fetches_nothing(page: str) -> None:
    tags = Tags(page)
    assert tags.balanced and not tags.open
    for tag, attributes in tags.tags:
        assert tag not in {"script", "iframe", "object", "embed", "base", "audio", "video"}
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
            address = attributes.get(name)
            assert (
                address is None or address.startswith(("data:image/png;base64,", "#")) or address == "data:,"
            )
    assert not re.search(r"url\(\s*['\"]?(?!#)", page) and "@import" not in page
    assert "default-src 'none'" in page


def test_identifiers_are_unique_and_links_arrive(page: str) -> None:
    tags = Tags(page).tags
    identifiers = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    links = {a["href"][1:] for _, a in tags if (a.get("href") or "").startswith("#")}
    links |= set(re.findall(r"url\(#([^)]+)\)", page))
    assert links and links <= set(identifiers)


def test_what_the_user_wrote_stays_text(page: str) -> None:
    assert "<script" not in page.lower()
    escaped = page.count("&lt;script&gt;")
    assert escaped >= 12  # class, file, note, reason, label, curve, sample, name, event, machine, citation, …


def test_every_picture_is_inlined_bit_for_bit(page: str) -> None:
    inlined = [
        base64.b64decode(data) for data in re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page)
    ]
    shown = {np.asarray(Image.open(io.BytesIO(data))).tobytes() for data in inlined}
    facts = full()
    wanted = [image for _, image in facts.samples] + [image for _, _, image in facts.previews]
    wanted += [row["sample"] for row in facts.nearest] + [row["neighbour"] for row in facts.nearest]
    assert {np.asarray(image).tobytes() for image in wanted} <= shown


def test_every_metric_stands_with_its_n_and_error(page: str) -> None:
    for name, row in full().metrics.items():
        block = page.split(f'data-metric="{name}"')[1].split("data-metric=")[0]
        assert f"n = {row['n']:,}" in block
        assert "± 0.12" in block
        assert ('class="floor"' in block) == (row["floor"] is not None)
    assert "0.1111 ± 0.010" not in page and "± 0.010 (n = 97)" in page  # so does the held-out loss


def test_a_number_without_its_n_is_refused() -> None:
    with pytest.raises(ValueError, match="no sample count"):
        render_report(ReportFacts("x", metrics={"fd": {"value": 1.0, "n": None}}))


@pytest.mark.parametrize(
    "kept", [None, *(f.name for f in dataclasses.fields(ReportFacts) if f.name != "title")]
)
def test_what_is_missing_is_left_out(kept: str | None) -> None:
    facts = ReportFacts("Only this", **({kept: getattr(full(), kept)} if kept else {}))
    page = render_report(facts)
    tags = Tags(page)
    assert tags.balanced
    empty = r"<(section|figure|dl|ul|ol|table|tbody|fieldset|div|p|li|h3|figcaption)\b[^>]*>\s*</\1>"
    assert not re.search(empty, page)
    sections = [a["id"] for tag, a in tags.tags if tag == "section"]
    linked = [a["href"] for tag, a in tags.tags if tag == "a"]
    assert len(sections) <= 2 and all(f"#{name}" in linked for name in sections if name != "samples")
    if kept is None:
        assert sections == [] and "<img" not in page and "<svg" not in page


def test_time_runs_from_noise_to_data_and_from_the_first_step_to_the_last() -> None:
    facts = ReportFacts(
        "order",
        denoising=[(t, grey(0)) for t in (0.0, 1.0, 0.5)],
        previews=[(s, "", grey(s)) for s in range(3000, -1, -100)],
    )
    page = render_report(facts)
    assert re.findall(r"<figcaption>t = ([\d.]+)<", page) == ["1.00", "0.50", "0.00"]
    steps = [int(s.replace(",", "")) for s in re.findall(r'<label for="step\d+">([\d,]+)<', page)]
    assert steps == sorted(steps) and steps[0] == 0 and steps[-1] == 3000 and len(steps) == 24
    assert re.findall(r'id="step(\d+)" checked', page) == ["24"]  # the finished model is what one sees first


def test_the_same_facts_give_the_same_bytes(page: str) -> None:
    assert render_report(full()) == page


def test_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "run" / "report.html"
    assert write_report(full(), path) == path
    before = path.read_bytes()
    assert before.decode("utf-8") == render_report(full())
    with pytest.raises(ValueError, match="no sample count"):
        write_report(ReportFacts("x", metrics={"fd": {"value": 1.0, "n": None}}), path)
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == ["report.html"]
    write_report(ReportFacts("names", events=["a file called \udcff.png"]), path)  # bytes that are no text
    assert "a file called ?.png" in path.read_text(encoding="utf-8")


def test_charts_take_their_colours_from_the_page(page: str) -> None:
    assert not any(colour in page.split("</style>")[1] for colour in plots.CSS)
    declared = set(re.findall(r"(--[\w-]+):", page))
    assert set(re.findall(r"var\((--[\w-]+)\)", page)) <= declared


def test_a_survey_loses_nothing() -> None:
    many = {f"class {i}": i + 1 for i in range(30)}
    survey = {
        "fingerprint": "ab",
        "val": 3,
        "files": 9,
        "classes": {"class": many},
        "class_names": {"class 7": "Sneaker"},
        "depths": {"8": 1, "16": 2},
        "sizes": {"8×8": 9},
        "novel": "kept",
        "duplicates": {"extra_copies": 2, "removed": 0, "examples": [["a", "b"], ["c", "d"]]},
        "left_alone": (("x.docx", "not a picture"),),
        "notes": ("a sentence", ("size", "8×8", "native")),
        "skipped": (),
    }
    view = survey_view(survey)
    assert view.facts == (
        ("Files", "9"),
        ("Held out", "3"),
        ("Sizes", "8×8 (9)"),
        ("Novel", "kept"),
        ("Exact duplicates: extra copies", "2"),
        ("Exact duplicates: examples", "a = b; c = d"),
        ("Fingerprint", "ab"),
    )
    classes, depths = view.bars
    bars = {name: int(n) for name, n, _ in (*classes.shown, *classes.rest)}
    assert bars == {("class 7 · Sneaker" if name == "class 7" else name): n for name, n in many.items()}
    assert max(share for _, _, share in (*classes.shown, *classes.rest)) == 1.0
    assert [name for name, _, _ in depths.shown] == ["8", "16"]
    assert view.left_alone == (("x.docx", "not a picture"),) and view.skipped == ()
    assert view.notes == ("a sentence",) and view.choices == (("size", "8×8", "native"),)
    assert survey_view({"duplicates": {"extra": 0, "examples": []}}).facts == (("Exact duplicates", "none"),)
    assert not survey_view({})


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F", "I"])
def test_pictures_of_every_mode_can_be_shown(mode: str) -> None:
    image = Image.new(mode, (8, 6), 0)
    shown = picture(image, 60)
    inlined = Image.open(io.BytesIO(base64.b64decode(shown.src.split(",")[1])))
    assert inlined.size == (8, 6) and (shown.width, shown.height) == (56, 42) and shown.pixelated


def test_a_sixteen_bit_picture_keeps_its_range() -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    shown = picture(Image.fromarray(ramp), 60)
    inlined = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown.src.split(",")[1]))))
    assert inlined.min() == 0 and inlined.max() == 255 and (np.diff(inlined.ravel().astype(int)) >= 0).all()
    assert np.abs(inlined - ramp / 257).max() <= 1


def test_a_section_of_its_own_is_on_the_page_and_in_its_contents() -> None:
    page = render_report(full())
    assert '<section id="mine">' in page and '<a href="#mine">' in page and "c-" in page
    assert page.index('id="copies"') < page.index('id="mine"') < page.index('id="data"')
    assert "mine" not in render_report(dataclasses.replace(full(), sections=[]))


def inlined(image: Image.Image, target: int) -> tuple[Any, Image.Image]:
    shown = picture(image, target)
    kind, data = shown.src.removeprefix("data:image/").split(";base64,")
    back = Image.open(io.BytesIO(base64.b64decode(data)))
    assert back.format == kind.upper()
    return shown, back


def test_a_large_picture_weighs_no_more_than_a_screen_can_show() -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (900, 1800, 3), dtype=np.uint8))
    shown, back = inlined(noise, 400)
    assert back.size == (800, 400) and not shown.pixelated
    assert back.format == "JPEG" and len(shown.src) < 800 * 400 * 3
    small = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    shown, back = inlined(small, 200)
    assert back.format == "PNG" and np.array_equal(np.asarray(back), np.asarray(small)) and shown.pixelated


def test_the_codecs_section_is_there_with_a_codec_alone() -> None:
    metric = {"value": 25.3, "stderr": 0.7, "n": 24, "better": "higher", "note": "24 held-out pictures"}
    log = [{"step": i, "psnr": 20 + i / 10} for i in range(1, 9)]
    codec = {"metrics": {"codec_psnr": metric}, "pairs": grey(1), "log": log, "words": [NASTY]}
    page = render_report(ReportFacts(title="x", codec=codec))
    assert "25.30" in page and "0.70" in page and "n = 24" in page and NASTY not in page
    assert 'href="#codec"' in page and "<svg" in page.split('id="codec"')[1]
    assert 'id="codec"' not in render_report(ReportFacts(title="x"))
    with pytest.raises(ValueError, match="sample count"):
        render_report(ReportFacts(title="x", codec=codec | {"metrics": {"codec_psnr": {"value": 1.0}}}))
