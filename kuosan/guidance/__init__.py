"""Guidance: denoisers that wrap denoisers and bend what they say."""

from __future__ import annotations

from kuosan.guidance.autoguided import Autoguided
from kuosan.guidance.classifier_free import ClassifierFree
from kuosan.guidance.given import Given
from kuosan.guidance.restored import restored
from kuosan.guidance.tempered import Tempered
from kuosan.guidance.windows import Windows

__all__ = ["Autoguided", "ClassifierFree", "Given", "Tempered", "Windows", "restored"]
