"""Measuring skeletal motions: feet that slide, jerks, joints that bend too far, and how motions as a whole compare.

What is measured takes `Clips`, places of joints in metres, and knows nothing of files or of states.
"""

from kuosan.evaluation.motion.clips import Clips, clips_of
from kuosan.evaluation.motion.evaluate import measure_motions
from kuosan.evaluation.motion.kinematics import Kinematics, kinematics_of
from kuosan.evaluation.motion.statistics import STATISTICS

__all__ = ["STATISTICS", "Clips", "Kinematics", "clips_of", "kinematics_of", "measure_motions"]
