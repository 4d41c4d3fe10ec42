"""What is measured of medical images beside what holds for every dense state."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from kuosan.evaluation.copies import Nearest
from kuosan.evaluation.features import states
from kuosan.evaluation.found import Found, Sides
from kuosan.evaluation.medical.patients import copied_patients
from kuosan.evaluation.medical.values import BINS, LEVELS, Implausible, ValueDistance, histogram, levels
from kuosan.modalities import MedicalModality, Scan


def evaluate_scans(
    found: Found,
    modality: MedicalModality,
    samples: Sequence[Scan],
    reference: Sequence[Scan],
    floor: Sequence[Scan],
    training: Float[Tensor, "t 1 *sides"],
    heldout: Float[Tensor, "v 1 *sides"],
    groups: tuple[Sequence[bytes], Sequence[bytes]],
    note: str,
) -> tuple[Nearest, ...] | None:
    """Fills `found`; the table of samples nearest to a patient, None where there are no `groups` (of training and
    held-out items) of several."""
    low, high, unit = modality.form.low, modality.form.high, modality.form.unit
    found.spaces["values"] = {"unit": unit, "bins": BINS}
    rows = Sides(
        histogram(samples, low, high), histogram(reference, low, high), histogram(floor, low, high), note
    )
    found.compare("value_distance", ValueDistance(), rows, "values")
    found.spaces["levels"] = {"unit": unit, "quantiles": list(LEVELS)}
    rows = Sides(levels(samples), levels(reference), levels(floor), note)
    found.compare("implausible", Implausible(), rows, "levels")
    if len(set(groups[0])) < 2:
        return None
    space = states(training.shape[1:], modality.axes)
    drawn = space(modality.encode(samples))
    return copied_patients(found, drawn, space(training), space(heldout), *groups, space.name)
