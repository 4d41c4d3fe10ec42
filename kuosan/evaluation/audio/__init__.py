"""What is measured of sounds: statistics of their spectra, and loudness, silence, brightness and length."""

from kuosan.evaluation.audio.evaluate import evaluate_sounds
from kuosan.evaluation.audio.features import TRAITS, Trait, mel_statistics, traits

__all__ = ["TRAITS", "Trait", "evaluate_sounds", "mel_statistics", "traits"]
