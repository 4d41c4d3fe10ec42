"""People's files on one side, tensors on the other; nothing here knows of diffusion.

`load(folder)` gives a `Dataset` of two `Split`s and a `Survey` of what was found; `modality_from_spec` builds
the modality of a saved model again, to decode and write its samples.
"""

from kuosan.modalities.audio import AudioModality
from kuosan.modalities.audio_file import Sound
from kuosan.modalities.base import Modality, Unreadable, known_modalities, modality_class, modality_from_spec
from kuosan.modalities.dataset import Dataset, Split, Survey, load, resolve
from kuosan.modalities.grid import as_rgb, grid_picture
from kuosan.modalities.image import ImageModality
from kuosan.modalities.image_format import ImageFormat
from kuosan.modalities.medical import MedicalModality
from kuosan.modalities.medical_form import MedicalForm
from kuosan.modalities.medical_scan import Scan
from kuosan.modalities.music import MusicModality
from kuosan.modalities.music_score import Note, Part, Score
from kuosan.modalities.pixels import Picture
from kuosan.modalities.ragged import Ragged
from kuosan.modalities.text import TextModality
from kuosan.modalities.tokeniser import Tokeniser, read_tokeniser
from kuosan.modalities.tokeniser_training import train_tokeniser

__all__ = [
    "AudioModality",
    "Dataset",
    "ImageFormat",
    "ImageModality",
    "MedicalForm",
    "MedicalModality",
    "Modality",
    "MusicModality",
    "Note",
    "Part",
    "Picture",
    "Ragged",
    "Scan",
    "Score",
    "Sound",
    "Split",
    "Survey",
    "TextModality",
    "Tokeniser",
    "Unreadable",
    "as_rgb",
    "grid_picture",
    "known_modalities",
    "load",
    "modality_class",
    "modality_from_spec",
    "read_tokeniser",
    "resolve",
    "train_tokeniser",
]
