"""Forward processes: how data is corrupted along time.

A `Process` is enough to train. An `Explicit` one can say how likely a noisy state is given the data: enough for exact
denoisers of finitely many data. A `Reversible` one can draw a less noisy state given a noisier one and the data,
q(x_s | x_t, x): enough to sample by ancestors. A `Bridged` one is both, and knows how far its reverse steps are from a
model's in closed form: enough to bound the likelihood, whatever the state is made of.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor

from kuosan.core.posteriors import Posterior
from kuosan.core.random import Seeds
from kuosan.core.shapes import State, Time


class Process(ABC):
    """q(x_t | x) and the law at t = 1."""

    @abstractmethod
    def prior(self, like: State, seeds: Seeds) -> State:
        """A draw of x_1 in the shape of ``like``."""

    @abstractmethod
    def corrupt(self, x: State, t: Time, seeds: Seeds) -> State:
        """A draw of x_t given the data ``x``."""

    def __str__(self) -> str:
        """What it is, for messages to people."""
        return f"a {type(self).__name__}"


class Explicit(Process):
    """A process whose q(x_t | x) can be written down."""

    @abstractmethod
    def log_kernel(self, x: State, x_t: State, t: Time) -> Float[Tensor, "b n"]:
        """log q(x_t | x) of every pair of a state in ``x_t`` (b) and a datum in ``x`` (n), up to a constant
        that does not depend on the datum."""

    @abstractmethod
    def mix(self, x: State, weights: Float[Tensor, "b n"]) -> Posterior:
        """The posterior that gives datum n of ``x`` the probability ``weights[:, n]``, in closed form."""


class Reversible(Process):
    """A process whose reverse conditional q(x_s | x_t, x) can be drawn from exactly."""

    @abstractmethod
    def bridge(self, x_t: State, q: Posterior, t: Time, s: Time, seeds: Seeds) -> State:
        """A draw of x_s, s ≤ t, when x given x_t follows ``q``."""


class Bridged(Reversible, Explicit):
    """A process whose reverse conditional is known in closed form, and its divergences with it."""

    @abstractmethod
    def elbo_rate(self, x: State, x_t: State, q: Posterior, t: Time) -> Time:
        """The negative evidence bound per unit of time at t, in nats, per example (b,).

        Its integral over time, averaged over x_t, is the diffusion term of the bound on -log p(x).
        """

    @abstractmethod
    def step_divergence(self, x: State, x_t: State, q: Posterior, t: Time, s: Time) -> Time:
        """KL(q(x_s | x_t, x) ‖ p(x_s | x_t)) of the step that `bridge` takes, s < t, in nats per example (b,).

        Infinite where the data's own step ends in a point and the model's does not: Gaussian states at s = 0.
        """

    @abstractmethod
    def prior_divergence(self, x: State, t: Time) -> Time:
        """KL(q(x_t | x) ‖ the law that sampling starts from), were it to start at ``t``, in nats per example (b,)."""
