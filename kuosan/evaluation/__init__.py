"""Evaluation: is a set of samples as good as real data, as varied, and not copied from it?

`evaluate_samples` measures everything that the data allow. A new metric is one class and one line here: it
then inherits the law tests, which ask every member of `METRICS` for what it declares.
"""

from __future__ import annotations

from kuosan.evaluation.base import Estimate, Measurement, Metric, measure
from kuosan.evaluation.copies import Copies, Nearest, NearestDistance
from kuosan.evaluation.evaluate import Evaluation, evaluate_samples
from kuosan.evaluation.frechet import FrechetDistance, FrechetInfinity
from kuosan.evaluation.frontier import Mauve
from kuosan.evaluation.kernel import GaussianKernelDistance, KernelDistance
from kuosan.evaluation.neighbours import Coverage, Density, Precision, Recall
from kuosan.evaluation.recognition import ClassAccuracy, ClassFrequency
from kuosan.evaluation.retrieval import CaptionRetrieval
from kuosan.evaluation.two_sample import ClassifierTwoSample, SlicedWasserstein
from kuosan.evaluation.variety import Pairwise, PairwiseBetween, PairwiseWithin, Vendi

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        FrechetDistance(),
        FrechetInfinity(),
        KernelDistance(),
        GaussianKernelDistance(),
        SlicedWasserstein(),
        ClassifierTwoSample(),
        Precision(),
        Recall(),
        Density(),
        Coverage(),
        Vendi(),
        Pairwise(),
        PairwiseWithin(),
        PairwiseBetween(),
        Mauve(),
        ClassAccuracy(),
        ClassFrequency(),
        CaptionRetrieval(),
        Copies(),
        NearestDistance(),
    )
}

__all__ = [
    "METRICS",
    "CaptionRetrieval",
    "ClassAccuracy",
    "ClassFrequency",
    "ClassifierTwoSample",
    "Copies",
    "Coverage",
    "Density",
    "Estimate",
    "Evaluation",
    "FrechetDistance",
    "FrechetInfinity",
    "GaussianKernelDistance",
    "KernelDistance",
    "Mauve",
    "Measurement",
    "Metric",
    "Nearest",
    "NearestDistance",
    "Pairwise",
    "PairwiseBetween",
    "PairwiseWithin",
    "Precision",
    "Recall",
    "SlicedWasserstein",
    "Vendi",
    "evaluate_samples",
    "measure",
]
