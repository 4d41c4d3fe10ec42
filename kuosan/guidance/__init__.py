"""Guidance: denoisers that wrap denoisers and bend what they say."""

from __future__ import annotations

from kuosan.guidance.autoguided import Autoguided
from kuosan.guidance.classifier_free import ClassifierFree

__all__ = ["Autoguided", "ClassifierFree"]
