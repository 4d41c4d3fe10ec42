"""A run: a folder that can be loaded, sampled and measured.

The folder is the interface (docs/reference/run-folder.md). `Run` reads it and never changes what training wrote,
except to add to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kuosan.codecs import Codec, load_codec
from kuosan.core.curves import Curve
from kuosan.core.entropy import EntropyProfile
from kuosan.core.grids import resized
from kuosan.core.random import Seeds
from kuosan.core.schedules import Schedule
from kuosan.core.shapes import BESIDE
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.calibrated import Calibrated
from kuosan.denoisers.diffusers import is_diffusers
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.errors import UserError
from kuosan.guidance.classifier_free import ClassifierFree
from kuosan.modalities import Modality, modality_from_spec
from kuosan.modalities.captions import Captions
from kuosan.processes.additive import AdditiveProcess
from kuosan.recipes import beside, machine, verbs
from kuosan.recipes.conditions import Where
from kuosan.recipes.entropy import grid_of, is_entropic, read_profile
from kuosan.recipes.facts import Facts, foreign_facts
from kuosan.recipes.heat import heat_of, tempered
from kuosan.recipes.noise import build_solver
from kuosan.recipes.samples import Samples, write_samples
from kuosan.recipes.steering import Steered, Steering, begun, onward, walked
from kuosan.recipes.student import Ends, check_sampling, student_grid
from kuosan.recipes.tokens import Rules, token_sampler, walk_tokens
from kuosan.recipes.weights import foreign_model, trained_model
from kuosan.solvers import Step
from kuosan.solvers.sequence import Sequence
from kuosan.training.checkpoint import load_weights

if TYPE_CHECKING:
    from PIL import Image

    from kuosan.recipes.inverse import Noise

RECIPE, WEIGHTS, CODEC = "recipe.yaml", "model.safetensors", "codec.safetensors"
VARIANCES = "grids/variances.safetensors"
CHUNK, EXACT_CHUNK = 64, 16
DECODED = 8  # latents that are decoded at a time


class Run:
    """A trained (or training) model in a folder, or a diffusers pipeline's folder read as one."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.known_sequences: dict[tuple[int, float], Sequence] = {}
        if not self.path.exists():
            raise UserError(f"there is no run at {self.path}: give the folder that `kuosan train` wrote to")
        self.foreign = not (self.path / RECIPE).is_file() and is_diffusers(self.path)
        if not self.foreign and not (self.path / RECIPE).is_file():
            raise UserError(
                f"{self.path} is no run: it holds no {RECIPE}; give a folder that `kuosan train` wrote to, or a "
                "diffusers pipeline's"
            )

    @cached_property
    def facts(self) -> Facts:
        """The resolved recipe."""
        return foreign_facts(self.path) if self.foreign else Facts.read(self.path / RECIPE)

    @cached_property
    def modality(self) -> Modality[Any]:
        return modality_from_spec(self.facts.modality, self._kept)

    def _kept(self, name: str) -> bytes:
        """A file that the modality keeps beside the recipe."""
        try:
            return (self.path / name).read_bytes()
        except OSError as e:
            raise UserError(
                f"{self.path / name} cannot be read ({e.strerror}): restore it from a copy of the run"
            ) from e

    @cached_property
    @torch.inference_mode(False)  # also when sampling asks first: or nobody could differentiate it afterwards
    def model(self) -> Denoiser:
        """The averaged model, of numbers or of tokens, on this machine's best device."""
        model = foreign_model(self.path) if self.foreign else trained_model(self.facts, self.path / WEIGHTS)
        return model.requires_grad_(False).eval().to(machine.device())

    @property
    def denoiser(self) -> NetworkDenoiser:
        """The model of a run over numbers.

        Raises:
            UserError: its states are tokens.
        """
        if not isinstance(self.model, NetworkDenoiser):
            raise UserError(
                f"{self.path} is a model of {self.facts.recipe.data.modality}, whose states are tokens, and this needs "
                "states of numbers, such as pictures"
            )
        return self.model

    @cached_property
    def variances(self) -> dict[str, Tensor] | None:
        """The optimal reverse variances that training left, for `Calibrated`; None where there are none."""
        path = self.path / VARIANCES
        return load_weights(path) if path.is_file() else None

    @cached_property
    def profile(self) -> EntropyProfile | None:
        """The entropy's profile that training left, for the grid ``entropy``; None where there is none."""
        return read_profile(self.path)

    def calibrated(self, denoiser: Denoiser) -> Denoiser:
        """``denoiser`` with those variances; as it is where there are none, or where it learned its own."""
        if self.variances is None or self.facts.recipe.objective.variance == "learned":
            return denoiser
        return Calibrated(denoiser, **self.variances)

    @cached_property
    @torch.inference_mode(False)
    def codec(self) -> Codec | None:
        """What makes states of latents; None where the network works on states."""
        if self.facts.codec is None:
            return None
        if not (self.path / CODEC).is_file():
            raise UserError(f"{self.path / CODEC} is missing: run `kuosan resume {self.path}` to write it")
        return load_codec(self.path / CODEC, self.facts.codec).to(machine.device())

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Of what the network works on: of one latent, or of one state where there is no codec."""
        network = self.facts.network
        if self.facts.recipe.process.discrete:
            return (network["length"],)
        return (network["channels"], *network["sides"])

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one state."""
        return self.modality.shape

    @torch.no_grad()
    def encoded(self, x: Tensor) -> Tensor:
        """What the network works on, of states: the means of their latents, or the states where there is no codec."""
        codec = self.codec
        if codec is None:
            return x
        return torch.cat([codec.encode(part.to(codec.shift)).to(x) for part in x.split(DECODED)])

    @torch.no_grad()
    def decoded(self, z: Tensor) -> Tensor:
        """States of what the network works on, which is returned as it is where there is no codec."""
        codec = self.codec
        if codec is None:
            return z
        return torch.cat([codec.decode(part.to(codec.shift)).to(z) for part in z.split(DECODED)])

    # -- sampling ---------------------------------------------------------------------------------------

    @cached_property
    def captions(self) -> Captions | None:
        """How the run reads captions; None where it hears none."""
        return Captions.from_files(self._kept) if self.facts.network.get("captions") else None

    def conditions(self, seed: int, numbers: range, where: Where | None = None) -> dict[str, Tensor]:
        """Those of samples of these numbers, and what stands beside each: see `beside.conditions`."""
        return beside.conditions(self, seed, numbers, where or {})

    @property
    def unguided(self) -> Denoiser:
        """What classifier-free guidance bends."""
        return self.model

    def guided(self, w: float | Curve) -> Denoiser:
        """The denoiser, with classifier-free guidance where there are conditions and ``w`` is not 1."""
        if w != 1 and not (self.facts.null or self.facts.network.get("beside")):
            raise UserError(
                f"guidance w={w} needs conditions and the run {self.path} has none: leave --w away"
            )
        return tempered(
            self.unguided if w == 1 else ClassifierFree(self.unguided, w, self.facts.null), *self.heat
        )

    @property
    def heat(self) -> tuple[float, float]:
        """Temperature and nucleus of the tokens that are drawn."""
        return heat_of(self.facts, self.path)

    @property
    def allowed(self) -> tuple[float, ...] | None:
        """How many faults of voice leading a passage of music may have, see `music_revise`."""
        return verbs.allowed(self)

    def grid(self, steps: int, name: str = "auto", schedule: Schedule | None = None) -> Tensor:
        """The times of so many steps; of a student, its own.

        Raises:
            UserError: no such grid, no profile to make it of, or more steps than a student knows.
        """
        if self.facts.recipe.distil.steps:
            return student_grid(self.facts, self.path, steps)
        rule = self.facts.recipe.sampling.grid if name == "auto" else name
        made = grid_of(rule, self.path, self.profile if is_entropic(rule) else None)
        try:
            return made(schedule or self.denoiser.schedule, steps)
        except ValueError as e:
            raise UserError(str(e)) from e

    sequence = verbs.sequence

    def forget_sequences(self) -> None:
        """Read them anew from the folder."""
        self.known_sequences.clear()

    def sampler(
        self, steps: int | None = None, w: float | None = None, solver: str = "auto", grid: str = "auto"
    ) -> dict[str, Any]:
        """What these choices come to: steps, solver, grid and w, in words and numbers; see `sequence`."""
        if self.facts.recipe.process.discrete:
            return token_sampler(self, steps, solver, grid, w)
        sampling, chosen = self.facts.recipe.sampling, self.sequence(steps, w, solver, grid)
        if chosen:
            weight = chosen.guidance if w is None else w
            return {"steps": chosen.steps, "solver": chosen.solver, "grid": chosen.grid, "w": weight}
        return {
            "steps": sampling.steps if steps is None else steps,
            "solver": sampling.solver if solver == "auto" else solver,
            "grid": sampling.grid if grid == "auto" else grid,
            "w": sampling.w if w is None else w,
        }

    def walk(
        self,
        seeds: Seeds,
        cond: Mapping[str, Tensor],
        *,
        steps: int | None = None,
        solver_name: str = "auto",
        grid: str = "auto",
        w: float | None = None,
        denoiser: Denoiser | None = None,
        noise: Tensor | None = None,
        rules: Rules | None = None,
        steered: Steered | None = None,
    ) -> Iterator[Step]:
        """The trajectory of these examples, step by step, of the run's own denoiser or of another one of its kind
        (the one in training), from the seeds' noise or from the standard normal ``noise``; of latents where there is a
        codec, see `decoded`. ``rules`` are what texts must keep to, and ``steered`` is what steers numbers."""
        if self.facts.recipe.process.discrete:
            walk = walk_tokens(self, seeds, cond, steps, solver_name, grid, w, denoiser, rules)
            music = denoiser is None and self.facts.recipe.data.modality == "music"
            yield from verbs.revise(self, walk, seeds, cond, w, rules) if music else walk
            return
        cond = beside.shown(self, seeds, cond)
        if steered is not None and steered.onward:
            same: Any = {"steps": steps, "solver_name": solver_name, "grid": grid, "w": w}
            yield from onward(
                steered, seeds, cond, lambda one, its, told: self.walk(its, told, steered=one, **same)
            )
            return
        sampling, student = self.facts.recipe.sampling, bool(self.facts.recipe.distil.steps)
        if student:
            check_sampling(self.facts, self.path, solver_name, grid, 1.0 if w is None else w)
        chosen = self.sequence(steps, w, solver_name, grid) if denoiser is None else None
        if steered is not None and chosen and chosen.state and not (steered.whole and steered.scale == 1):
            chosen = None  # coefficients of its own are for the whole grid
        name = sampling.solver if solver_name == "auto" else solver_name
        rule = chosen.rule() if chosen else build_solver(name, (denoiser or self.denoiser).process)
        if denoiser is None:
            weight: float | Curve = sampling.w if w is None else w
            denoiser = self.guided(chosen.guiding() if chosen and (chosen.w or w is None) else weight)
            denoiser = self.calibrated(denoiser) if rule.spread and not student else denoiser
        if student:
            denoiser = Ends(denoiser)
        denoiser = denoiser if steered is None else steered.around(denoiser)
        process = denoiser.process
        assert isinstance(process, AdditiveProcess)
        device = next(denoiser.parameters()).device
        count = sampling.steps if steps is None else steps
        times = chosen.grid_of() if chosen else self.grid(count, grid, process.schedule)
        if steered is not None and steered.scale != 1:
            times = resized(process.schedule, times, steered.scale)
        like = torch.empty(len(seeds), *(steered.shape if steered else self.latent_shape), device=device)
        x, times = begun(process, like, seeds, times, noise, sequence=chosen is not None, steered=steered)
        yield from walked(denoiser, rule, times, x, seeds, cond)

    def sample(
        self,
        n: int = 64,
        *,
        steps: int | None = None,
        solver: str = "auto",
        grid: str = "auto",
        seed: int = 0,
        where: Where | None = None,
        w: float | None = None,
        exact: bool = False,
        first: int = 0,
        noise: Noise | None = None,
        rules: Rules | None = None,
        length: int | str | None = None,
        steering: Steering | None = None,
    ) -> Samples:
        """Samples number ``first`` to ``first + n - 1`` of a seed; with ``noise``, from its rows of these numbers
        and under its conditions, except those that ``where`` names. Keeping to ``rules``, and of a ``length`` that is
        not the window's: of texts so many tokens at most, of music "16bars"; by ``steering``, as `steer` makes it.

        Sample i of a seed is the same state, within 1e-5, however many are drawn beside it; with ``exact`` to
        the bit, as then the work is done in whole chunks of one size, each sample always at its own place.

        Raises:
            UserError: an unknown solver, grid, condition or value, or more samples than there is noise.
        """
        verbs.check_numbers(n, first, None if noise is None else len(noise))
        if length is not None or (rules is not None and rules.canvas is not None):
            same = {"steps": steps, "solver": solver, "grid": grid, "w": w, "rules": rules}
            return verbs.sample_long(self, n, length, seed=seed, first=first, where=where, **same)
        chunk = EXACT_CHUNK if exact else CHUNK
        chunk = steering.chunk(chunk, self.shape) if steering else chunk
        start, stop = (
            (first // chunk * chunk, -(-(first + n) // chunk) * chunk) if exact else (first, first + n)
        )
        zs: list[Tensor] = []
        xs: list[Tensor] = []
        conds: list[dict[str, Tensor]] = []
        with torch.inference_mode():
            for low in range(start, stop, chunk):
                numbers = range(low, min(low + chunk, stop))
                seeds = Seeds.of(seed, numbers)
                z, cond = None, self.conditions(seed, numbers, where)
                if noise is not None:
                    z, cond = noise.rows(numbers, cond, where or {})
                cond = steering.conditions(numbers, cond, where or {}) if steering else cond
                for step in self.walk(
                    seeds, cond, steps=steps, solver_name=solver, grid=grid, w=w, noise=z, rules=rules,
                    steered=steering.of(self, numbers) if steering else None,
                ):  # fmt: skip
                    last = step
                zs.append(last.x.cpu())
                x = self.decoded(last.x).cpu()
                xs.append(steering.finish(x, numbers) if steering else x)
                conds.append({k: c for k, c in cond.items() if k != BESIDE})  # which is as large as samples
        part = slice(first - start, first - start + n)
        cond = {k: torch.cat([c[k] for c in conds])[part].clone() for k in conds[0]}
        z = None if self.codec is None else torch.cat(zs)[part].clone()
        modality = steering.writes if steering else self.modality.of_samples
        x = torch.cat(xs)[part].clone()
        return Samples(x, cond, first, modality, z, self.facts.columns, self.captions)

    averaged = verbs.averaged
    autoguided = verbs.autoguided
    heated = verbs.heated
    revised = verbs.revised
    stream = verbs.stream
    distil = verbs.distil
    finetune = verbs.finetune
    evaluate = verbs.evaluate
    encode = verbs.encode
    decode = verbs.decode
    interpolate = verbs.interpolate
    steer = verbs.steer

    def write(self, samples: Samples, out: str | Path, overview: Image.Image | None = None) -> list[Path]:
        """`kuosan.recipes.samples.write_samples`."""
        return write_samples(samples, out, overview)


def load(path: str | Path) -> Run:
    """The run in a folder."""
    return Run(path)
