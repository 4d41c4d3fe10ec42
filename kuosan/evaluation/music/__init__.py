"""Measuring music: windows of voices on a grid, beside real ones.

What is measured takes `Bars`, tensors of pitches and onsets, and knows nothing of files or of tokens.
"""

from kuosan.evaluation.music.bars import Bars
from kuosan.evaluation.music.baselines import music_baselines
from kuosan.evaluation.music.evaluate import evaluate_music
from kuosan.evaluation.music.faults import FAULTS, faults
from kuosan.evaluation.music.histograms import HISTOGRAMS, Overlap

__all__ = ["FAULTS", "HISTOGRAMS", "Bars", "Overlap", "evaluate_music", "faults", "music_baselines"]
