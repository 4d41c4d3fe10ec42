"""A run over medical images, from files to files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import kuosan
from kuosan.cli import main
from tests.modalities.medical import NAME, SECRETS, patient, read


def test_nothing_of_a_person_is_in_a_run(tmp_path: Path) -> None:
    for i in range(14):
        patient(tmp_path / "in" / ("b" if i % 2 else "a"), f"{i}", i, 4)
    (tmp_path / "in" / f"{NAME}_bad.dcm").write_bytes(b"Erika Mustermann")
    run = kuosan.train(
        tmp_path / "in", out=tmp_path / "run", budget="4steps", training__batch=8, network__kind="transformer",
        network__dim=32, network__depth=1, network__patch=4, training__validations=1, sampling__steps=2,
        data__volume="slices",
    )  # fmt: skip
    assert run.facts.columns == {"class": ["a", "b"]}
    folder = tmp_path / "out"
    assert main(["sample", str(run.path), "-n", "2", "--format", "png,nii.gz", "--out", str(folder)]) == 0
    assert read(folder / "00001.dcm").PatientName == "SYNTHETIC"
    scans = tmp_path / "in" / "b"
    assert (
        main(
            [
                "anomaly",
                str(run.path),
                str(scans),
                "--draws",
                "1",
                "--steps",
                "2",
                "--out",
                str(tmp_path / "an"),
            ]
        )
        == 0
    )
    import nibabel

    found = np.asarray(nibabel.load(tmp_path / "an" / "00000.nii.gz").dataobj)
    assert found.shape[:2] == (16, 16) and 0 <= found.min() < found.max() <= run.modality.scale * 2
    for path in (p for place in ("run", "out", "an") for p in (tmp_path / place).rglob("*") if p.is_file()):
        assert not [secret for secret in SECRETS if secret.encode() in path.read_bytes()], path
