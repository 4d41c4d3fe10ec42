"""The entropy's profile of a run: kept when training ends, for the grid ``entropy`` and for the report."""

from __future__ import annotations

from kuosan.codecs import Drawn
from kuosan.denoisers.calibrated import LEVELS, Calibrated
from kuosan.evaluation.likelihood.fold import shuffled
from kuosan.modalities import Dataset
from kuosan.processes.gaussian import GaussianProcess
from kuosan.recipes.entropy import ENTROPY
from kuosan.recipes.likelihood import ENOUGH, fit_variances
from kuosan.recipes.run import Run
from kuosan.training.checkpoint import write_json
from kuosan.training.data import Items

FEW = 16  # items that it is measured on where no variances were fitted
CALLS = FEW * LEVELS  # of the network, of one item each
UNIT = "nats per element and unit of log-SNR"


def keep_profile(run: Run, data: Dataset) -> None:
    """Write ``RUN/grids/entropy.json``, from the reverse variances where they were fitted (½ SNR times them is the
    rate), or else from a short measurement; nothing where the noise is not Gaussian."""
    if not isinstance(run.denoiser.process, GaussianProcess):
        return
    if run.variances is not None:
        found = Calibrated(run.denoiser, **run.variances)
    else:
        items: Items = shuffled(data.val if len(data.val) >= ENOUGH else data.train, FEW, 0)
        found = fit_variances(run, items if run.codec is None else Drawn(run.codec, items))
    write_json(run.path / ENTROPY, {**found.profile().to_json(), "unit": UNIT})
    run.__dict__.pop("profile", None)
