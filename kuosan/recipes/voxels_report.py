"""The report of a run over voxels: shapes that turn, how surprised the model is by others, what it copied."""

from __future__ import annotations

from pathlib import Path

from kuosan.evaluation.report_section import Section
from kuosan.evaluation.report_words import number
from kuosan.recipes.masked_report import Told, page, schedule
from kuosan.recipes.report import nearest_rows, played
from kuosan.recipes.report_bits import by_heart
from kuosan.recipes.session import Session
from kuosan.recipes.voxels_measure import voxels_of

SHOWN = 16


def write(session: Session, told: Told) -> Path:
    """``report.html`` of a run over voxels."""
    modality = voxels_of(session.run)
    depth, height, width = modality.form.sides
    headlines = []
    if m := told.surprise.get("bits_per_voxel"):
        headlines.append(
            f"Held-out shapes cost at most {number(m.value, m.stderr)} bits per voxel ({m.n:,} shapes)."
        )
    sections = [*told.more, *schedule(session)]
    if notes := by_heart("shapes", told.surprise.get("bits_per_voxel_train")):
        sections.append(Section("heart", "By heart", "What it knows by heart", notes, []))
    return page(
        session,
        told,
        what="voxels",
        process=f"cells on a grid of {width}×{depth}×{height}",
        items="shapes",
        headlines=headlines,
        shown=told.samples.raws(SHOWN),
        shows=played(session.run, told.samples),
        sections=sections,
        nearest=nearest_rows(session, told.samples, told.found),
    )
