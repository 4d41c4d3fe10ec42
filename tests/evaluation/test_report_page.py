"""The report as a browser lays it out: nothing reaches beyond a phone's screen, nor beyond a sheet of paper."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from html import escape
from pathlib import Path

import pytest
from PIL import Image

from kuosan.evaluation.report import ReportFacts, render_report
from kuosan.evaluation.report_section import Clip, Section, Table, Trace, Words
from kuosan.evaluation.verdict import Finding
from tests.evaluation.test_report import full, grey

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PHONE, LONG = 360, "wortohneende" * 12
# A window of Chromium's is never narrower than 500 pixels, a frame may be.
FRAME = """<!DOCTYPE html><title></title>
<iframe width="{width}" height="3000" style="border: 0" srcdoc="{page}"></iframe>
<script>
  const frame = document.querySelector("iframe");
  frame.onload = () => {{
    const all = frame.contentDocument, wide = all.documentElement.clientWidth, beyond = new Set();
    for (const e of all.querySelectorAll("body *")) {{
      const own = e.closest(".film, .scroll");
      if (e.getBoundingClientRect().right > wide + 1 && (!own || own === e)) beyond.add(e.tagName + "." + e.className);
    }}
    document.title = [wide, all.documentElement.scrollWidth, ...beyond].join(" ");
  }};
</script>"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed to lay pages out with")


def everything() -> ReportFacts:
    """All that a report can hold, with words that no line can take."""
    shows = [
        Section(
            "heard", "Listen", "To be heard", [LONG], [("", Clip("audio/wav", b"RIFF")), (LONG, grey(8, 900))]
        )
    ]
    sections = [
        Section(
            "more",
            "More",
            "More",
            ["words"],
            [
                ("", Words([(LONG, LONG), ("a text", "two\nlines")])),
                ("", Trace([(LONG, 1), ("end", 2)], 2)),
                (LONG, Table([f"head {i}" for i in range(9)], [[LONG[:20]] * 9])),
            ],
        )
    ]
    value = {"value": 3.21, "stderr": 0.02}
    bound = {**value, "n": 200, "note": "the bound", "floor": None}
    likelihood = {
        "metrics": {"bits_bound": bound, "bits_train": {**bound, "value": 3.1}}, "unit": "bits per dimension",
        "terms": {"prior": value, "diffusion": value, "reconstruction": value},
        "steps": {10: {"smaller": {**value, "gain": 0.3, "gain_stderr": 0.01},
                       "larger": {**value, "gain": 0.3, "gain_stderr": 0.01}, "optimal": value}},
        "lzma": 4.2, "independent_times": 0.4, "stratified_times": 0.2,
    }  # fmt: skip
    return replace(
        full(), title=LONG, command=f"kuosan train {LONG}", shows=shows, sections=sections, likelihood=likelihood,
        verdict=[Finding("Likeness", f"As good as {LONG}.", "good"), Finding("Copies", "Not known.", "unknown")],
        left_out={"fd_inf_encoder": f"needs more {LONG}"}, texts=[("number 0", LONG)], choices=[("what", LONG, LONG)],
    )  # fmt: skip


def chromium(*flags: str) -> str:
    """What headless Chromium prints."""
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def test_nothing_reaches_beyond_the_screen_of_a_phone(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(FRAME.format(width=PHONE, page=escape(render_report(everything()))), encoding="utf-8")
    found = chromium("--window-size=800,3000", "--virtual-time-budget=5000", "--dump-dom", page.as_uri())
    title = re.search(r"<title>(.*?)</title>", found, re.DOTALL)
    assert title is not None
    assert title[1].split() == [str(PHONE), str(PHONE)], "beyond the width are the elements named after it"


def test_it_is_drawn_on_a_phone_and_printed_on_paper(tmp_path: Path) -> None:
    page, shot, paper = tmp_path / "page.html", tmp_path / "shot.png", tmp_path / "page.pdf"
    page.write_text(render_report(full()), encoding="utf-8")
    chromium(f"--window-size={PHONE},1200", f"--screenshot={shot}", page.as_uri())
    with Image.open(shot) as picture:
        assert picture.width == PHONE
        assert len(picture.convert("L").resize((36, 120)).getcolors() or range(256)) > 20, (
            "there is something to see"
        )
    chromium(f"--print-to-pdf={paper}", "--no-pdf-header-footer", page.as_uri())
    assert paper.read_bytes().startswith(b"%PDF") and paper.stat().st_size > 10_000
