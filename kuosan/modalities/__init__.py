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
from kuosan.modalities.motion import MotionModality
from kuosan.modalities.motion_skeleton import Motion, Skeleton
from kuosan.modalities.music import MusicModality
from kuosan.modalities.music_roll import RollModality
from kuosan.modalities.music_score import Note, Part, Score
from kuosan.modalities.pixels import Picture
from kuosan.modalities.plan import PlanModality
from kuosan.modalities.plan_raw import Opening, Plan, Room
from kuosan.modalities.points import PointsModality
from kuosan.modalities.ragged import Ragged
from kuosan.modalities.shape import ShapeModality
from kuosan.modalities.shape_form import ShapeForm
from kuosan.modalities.shape_raw import Blocks, Cloud, Field, Shape, Surface
from kuosan.modalities.shape_wishes import ShapeWishes
from kuosan.modalities.shapes import ShapesModality
from kuosan.modalities.text import TextModality
from kuosan.modalities.tokeniser import Tokeniser, read_tokeniser
from kuosan.modalities.tokeniser_training import train_tokeniser
from kuosan.modalities.video import VideoModality
from kuosan.modalities.video_clip import Clip, VideoFormat
from kuosan.modalities.voxels import VoxelModality

__all__ = [
    "AudioModality",
    "Clip",
    "Blocks",
    "Cloud",
    "Dataset",
    "Field",
    "ImageFormat",
    "ImageModality",
    "MedicalForm",
    "MedicalModality",
    "Modality",
    "Motion",
    "MotionModality",
    "MusicModality",
    "Note",
    "Part",
    "Opening",
    "Picture",
    "Plan",
    "PlanModality",
    "PointsModality",
    "Ragged",
    "RollModality",
    "Room",
    "Scan",
    "Score",
    "Skeleton",
    "Sound",
    "Shape",
    "ShapeForm",
    "ShapeModality",
    "ShapeWishes",
    "ShapesModality",
    "Split",
    "Surface",
    "Survey",
    "TextModality",
    "Tokeniser",
    "Unreadable",
    "VideoFormat",
    "VideoModality",
    "VoxelModality",
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
