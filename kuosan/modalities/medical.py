"""Medical images: DICOM and NIfTI on one side, states of slices (b, 1, h, w), of volumes or of parts of these
(b, 1, d, h, w) on the other.

Values keep their units (Hounsfield units of CT, what is stored of others), see `medical_form` for the one form that all
are brought to and for what that loses. What a model makes is marked as synthetic in every file and carries nothing of
the people whose scans it was trained on: no name, number, date or identifier is read into a state, a recipe or a
report, where items go by numbers (`medical_told`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, PngImagePlugin
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.core.shapes import BESIDE, PICTURE, VOLUME
from kuosan.errors import UserError
from kuosan.modalities.base import Gathered, Modality, Read, Spec, Unreadable, register
from kuosan.modalities.folder import Folder, open_folder
from kuosan.modalities.kinds import SUFFIXES
from kuosan.modalities.medical_dicom import read_frames, read_scan
from kuosan.modalities.medical_draw import flight, picture, sheet
from kuosan.modalities.medical_form import MedicalForm, brightness, fit, framed, unshrunk
from kuosan.modalities.medical_gather import gather_scans
from kuosan.modalities.medical_nifti import read_volume, write_volume
from kuosan.modalities.medical_patches import Placed, coordinates, whole_shapes
from kuosan.modalities.medical_scan import Scan
from kuosan.modalities.medical_series import NIFTI, Series, alike, survey
from kuosan.modalities.medical_told import anonymous
from kuosan.modalities.medical_write import write_dicom


@register
class MedicalModality(Modality[Scan]):
    """Slices or volumes in one `form`."""

    name: ClassVar[str] = "medical"
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES["medical"]
    noun: ClassVar[str] = "scans"
    axes: ClassVar[tuple[str, ...]] = PICTURE
    formats: ClassVar[tuple[str, ...]] = ("dcm", "nii.gz", "nii", "png")
    remark: ClassVar[str] = (
        "Made by a diffusion model: no person was scanned. For research only; not for diagnosis, nor for any other use "
        "on patients."
    )

    def __init__(self, form: MedicalForm) -> None:
        self.form = form
        if form.volume:
            self.axes = VOLUME  # type: ignore[misc]
            self.formats = ("nii.gz", "nii", "dcm", "png")  # type: ignore[misc]

    def __repr__(self) -> str:
        return (
            f"MedicalModality({self.described_form()}, {self.form.low:g}…{self.form.high:g} {self.form.unit})"
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """(1, h, w) or (1, d, h, w) of one state."""
        return (1, *self.form.sides)

    @property
    def level(self) -> float | None:
        return 2 / (self.form.high - self.form.low) if self.form.whole else None

    @property
    def scale(self) -> float:
        return (self.form.high - self.form.low) / 2

    def described_form(self) -> str:
        f = self.form
        kind = "" if f.kind == "OT" else f"{f.kind} "
        sides = "×".join(map(str, f.sides))
        if not f.volume:
            return f"{kind}slices of {sides} pixels"
        return f"{kind}{'patches' if f.patches else 'volumes'} of {sides} voxels"

    @classmethod
    def spoken(cls, folder: Folder) -> Folder:
        return anonymous(folder)

    @classmethod
    def gather(cls, folder: Folder, like: Modality[Any] | None, **options: Any) -> Gathered:
        """See `gather_scans`, also for the options."""
        return gather_scans(folder, cls, like if isinstance(like, MedicalModality) else None, **options)

    def spec(self) -> Spec:
        return {"modality": self.name, "form": self.form.to_json()}

    @classmethod
    def from_spec(cls, spec: Spec, read: Read | None = None) -> MedicalModality:
        return cls(MedicalForm.from_json(spec["form"]))

    def resolved(self) -> dict[str, Any]:
        return {"volume": "patches" if self.form.patches else "volume" if self.form.volume else "slices"}

    def sized(self, sides: Sequence[int]) -> MedicalModality:
        """The same form at other sides."""
        return MedicalModality(replace(self.form, sides=tuple(sides)))

    def own_sides(self, data: Path) -> tuple[int, ...] | None:
        """Of whole scans, for a model of patches of them."""
        if not self.form.patches:
            return None
        series, _ = survey(self.spoken(open_folder(data, self.name)), "first")
        series = [one for one in alike(series, self.form.unit)[0] if not one.gap]
        if not series:
            return self.form.sides  # reading them says why
        sizes = sorted(set(whole_shapes(series, self.form.millimetres)))
        if len(sizes) > 1:
            few = ", ".join("×".join(map(str, size)) for size in sizes[:3])
            raise UserError(
                f"{data} holds scans of {len(sizes)} sizes ({few}{', …' if len(sizes) > 3 else ''}): say how large "
                "samples are to be with --size, or name a single one"
            )
        return sizes[0]

    @property
    def beside_channels(self) -> int:
        return 3 if self.form.patches else 0

    def small(self, storage: Placed) -> Tensor:
        """The places of patches."""
        return storage.places

    def shown(self, small: Tensor) -> Float[Tensor, "b 3 *sides"]:
        """The place of every voxel in its scan."""
        return coordinates(small, self.form.sides)

    @property
    def beside_whole(self) -> Tensor | None:
        """Of a scan of this size."""
        sides = self.form.sides
        return self.shown(torch.tensor([[0, 0, 0, *sides]])) if self.form.patches else None

    def labels(
        self,
        labels: dict[str, Tensor],
        words: Mapping[str, Sequence[str]],
        storage: Any,
        seeds: Seeds | None,
    ) -> dict[str, Tensor]:
        """The items' own, and of patches where they lie."""
        return {**labels, BESIDE: self.shown(self.small(storage))} if self.form.patches else labels

    def units(self, axis: str) -> Mapping[str, float]:
        """Places per millimetre, where the spacing is known."""
        if not self.form.spacing or axis not in self.axes:
            return {}
        return {"mm": 1 / self.form.spacing[self.axes.index(axis)]}

    def read(self, path: Path | str) -> Scan:
        """The scan of a file, or of a folder with a series: its volume, its slice, or the one in the middle of several.

        Raises `Unreadable`.
        """
        path = Path(path)
        if path.name.lower().endswith(NIFTI):
            scan = read_volume(path)
            if self.form.volume:
                return scan
            slices = Series.planes(scan).slices()
            return slices[len(slices) // 2]
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        frames = [frame for file in files for frame in read_frames(file)]
        if not frames:
            raise Unreadable("there is no file in this folder", path)
        if not self.form.volume:
            return read_scan(frames[len(frames) // 2])
        series = Series((), b"", True, tuple(sorted(frames, key=lambda f: f.place)))
        if series.gap:
            raise Unreadable(f"{series.gap}, where a volume is expected", path)
        return series.volume(False)

    def fit(self, raw: Scan) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The values of one scan in this form; of a patch's, its middle.  Raises `Unreadable`."""
        f = self.form
        values, _ = unshrunk(raw, f.millimetres) if f.patches else fit(raw, f.sides, f.millimetres)
        if raw.unit != f.unit:
            if (raw.unit, f.unit) != ("raw", "relative"):
                raise Unreadable(f"its values are in {raw.unit} units and the model's in {f.unit}")
            values = values / np.float32(brightness(values))
        return f.quantised(framed(values, f.sides))

    def encode(self, raws: Sequence[Scan]) -> Float[Tensor, "b 1 *sides"]:
        if not raws:
            return torch.empty(0, *self.shape)
        return self._state(torch.from_numpy(np.stack([self.fit(raw)[None] for raw in raws])))

    def decode(self, x: Float[Tensor, "b 1 *sides"]) -> list[Scan]:
        """Scans of states: clipped, and whole numbers where the data are."""
        f = self.form
        if x.ndim != 1 + len(self.shape) or tuple(x.shape[1:]) != self.shape:
            raise ValueError(
                f"expected states of shape (b, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}"
            )
        unit = (x.detach().to("cpu", torch.float64).clamp(-1, 1).numpy()[:, 0] + 1) / 2
        values = f.quantised((f.low + unit * (f.high - f.low)).astype(np.float32))
        return [Scan(v, f.unit, f.kind, f.affine, f.inverted, f.shown, f.whole) for v in values]

    def to_state(self, storage: Any, seeds: Seeds | None = None) -> Float[Tensor, "b 1 *sides"]:
        """Equation (1) of `medical_form`; a scan has one view."""
        return self._state(storage.values if self.form.patches else storage)

    def _state(self, values: Tensor) -> Float[Tensor, "b 1 *sides"]:
        f = self.form
        return values.to(torch.float32, copy=True).sub_(f.low).mul_(2 / (f.high - f.low)).sub_(1)

    def write(self, raw: Scan, path: Path | str) -> Path:
        """DICOM (of a volume a folder of slices) or NIfTI with units and place, or a PNG to look at; all say that they
        are synthetic.

        Raises `UserError` for a suffix that cannot hold it.
        """
        path = Path(path)
        name = path.name.lower()
        known = next((kind for kind in self.formats if name.endswith(f".{kind}")), None)
        if known is None and path.suffix:
            raise UserError(
                f"{path.name}: {self.noun} are not written as {path.suffix}; choose one of {', '.join(self.formats)}."
            )
        if known is None:
            known = self.formats[0]
            path = path.with_name(f"{path.name}.{known}")
        if known == "dcm" and self.form.volume:
            path = path.with_suffix("")
        if known == "dcm":
            write_dicom(raw, path, self.form, self.remark)
        elif known == "png":
            about = PngImagePlugin.PngInfo()
            about.add_itxt("Comment", self.remark)
            Image.fromarray(picture(raw, self.form.shown).pixels[..., 0]).save(path, pnginfo=about)
        else:
            write_volume(raw, path)
        return path

    def write_map(self, values: Tensor, path: Path) -> Path | None:
        """NIfTI, in the place of the scans."""
        f = self.form
        path = path.with_name(f"{path.name}.nii.gz")
        write_volume(Scan(values.float().numpy(), f.unit, f.kind, f.affine), path)
        return path

    def show(self, raws: Sequence[Scan], columns: int | None = None, scale: int | None = None) -> Image.Image:
        """All scans on one sheet, see `medical_draw`."""
        return sheet(raws, self.form.shown, columns, scale)

    def clip(self, raw: Scan) -> tuple[str, bytes] | None:
        """A volume slice by slice."""
        return ("image/webp", flight(raw, self.form.shown)) if self.form.volume else None
