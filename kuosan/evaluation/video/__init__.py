"""What clips are measured by: how they move, beside how real ones do, and what each frame looks like."""

from __future__ import annotations

from kuosan.evaluation.video.evaluate import evaluate_clips
from kuosan.evaluation.video.movement import STATISTICS, Movement, WassersteinDistance, shuffled_frames

__all__ = ["STATISTICS", "Movement", "WassersteinDistance", "evaluate_clips", "shuffled_frames"]
