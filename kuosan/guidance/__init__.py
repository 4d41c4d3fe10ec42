"""Guidance: denoisers that wrap denoisers and bend what they say."""

from __future__ import annotations

from kuosan.guidance.autoguided import Autoguided
from kuosan.guidance.classifier_free import ClassifierFree
from kuosan.guidance.restored import restored
from kuosan.guidance.tempered import Tempered

__all__ = ["Autoguided", "ClassifierFree", "Tempered", "restored"]
