"""Medical images: are values where they belong, and are samples some patient's scans?"""

from kuosan.evaluation.medical.evaluate import evaluate_scans
from kuosan.evaluation.medical.patients import copied_patients, honest_of_patients
from kuosan.evaluation.medical.values import Implausible, ValueDistance, histogram, levels

__all__ = [
    "Implausible",
    "ValueDistance",
    "copied_patients",
    "evaluate_scans",
    "histogram",
    "honest_of_patients",
    "levels",
]
