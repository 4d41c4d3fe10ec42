"""Solvers, by class and by the names that recipes and the command line use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kuosan.solvers.adams import DEIS, IPNDM, AdamsBashforth
from kuosan.solvers.ancestral import Ancestral
from kuosan.solvers.base import Solver, Step, sample, trajectory
from kuosan.solvers.exponential import DDIM, DPMSolverPP, SDESolverPP, UniPC
from kuosan.solvers.inverse import Midpoint, invert
from kuosan.solvers.multistep import History, Multistep, Table
from kuosan.solvers.recorrupt import Cold, Redraw
from kuosan.solvers.runge_kutta import Euler, Heun
from kuosan.solvers.unmasking import ByConfidence, ByEntropy, ByMargin, FirstHitting, ReMDM, Spaced, Unmasking

SOLVERS: dict[str, Callable[[], Solver[Any]]] = {
    "ancestral": Ancestral,
    "ddim": DDIM,
    "euler": Euler,
    "heun": Heun,
    "dpm++1": lambda: DPMSolverPP(1),
    "dpm++2m": lambda: DPMSolverPP(2),
    "dpm++3m": lambda: DPMSolverPP(3),
    "unipc1": lambda: UniPC(1),
    "unipc2": lambda: UniPC(2),
    "unipc3": lambda: UniPC(3),
    "ipndm": IPNDM,
    "adams": AdamsBashforth,
    "deis": DEIS,
    "deis-t": lambda: DEIS(variable="t"),
    "midpoint": Midpoint,
    "sde-dpm++2m": SDESolverPP,
    "cold": Cold,
    "redraw": Redraw,
    "first-hitting": FirstHitting,
    "spaced": Spaced,
    "confidence": ByConfidence,
    "entropy": ByEntropy,
    "margin": ByMargin,
    "remdm": ReMDM,
}


def solver(name: str) -> Solver[Any]:
    """A solver by its name."""
    if name not in SOLVERS:
        raise ValueError(f"there is no solver {name!r}: choose one of {', '.join(SOLVERS)}")
    return SOLVERS[name]()


__all__ = [
    "DDIM", "DEIS", "IPNDM", "SOLVERS", "AdamsBashforth", "Ancestral", "ByConfidence", "ByEntropy", "ByMargin", "Cold",
    "DPMSolverPP", "Euler", "FirstHitting", "Heun", "History", "Midpoint", "Multistep", "ReMDM", "Redraw",
    "SDESolverPP", "Solver", "Spaced", "Step", "Table", "UniPC", "Unmasking", "invert", "sample", "solver",
    "trajectory",
]  # fmt: skip
