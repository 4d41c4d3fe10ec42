"""What `kuosan sample` can be asked of motions: feet that stand still, joints that keep to their limits."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from kuosan.errors import UserError

if TYPE_CHECKING:
    from kuosan.recipes.run import Run


def corrected(run: Run, foot_lock: bool | None, joint_limits: bool) -> Run:
    """The run whose decoded motions keep to what is asked for; itself where nothing is.

    Raises:
        UserError: a run that is not of motions.
    """
    if foot_lock is None and not joint_limits:
        return run
    from kuosan.modalities import MotionModality

    modality = run.modality
    if not isinstance(modality, MotionModality):
        flag = {True: "--foot-lock", False: "--no-foot-lock", None: "--joint-limits"}[foot_lock]
        raise UserError(f"{flag} is for motions, and {run.path} is no model of motions: leave it away")
    found = copy.copy(run)
    found.modality = modality.corrected(foot_lock=foot_lock, joint_limits=joint_limits)
    return found
