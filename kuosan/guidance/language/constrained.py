"""Text that satisfies a constraint with certainty, at any number of steps.

`Constrained` wraps a denoiser over tokens and conditions its posterior on acceptance by an automaton (`chain`).
What a sampler then does with the posterior keeps the promise, as long as it reveals positions of a joint draw:

- the draw satisfies the constraint and keeps all that is written already;
- so whichever of its positions are revealed, and in whichever order, a text that satisfies the constraint and keeps
  them exists (the draw itself), hence has positive probability at the next step;
- the last step reveals all that is left, and the text is a draw that satisfies the constraint.

Masking each position's tokens by what the automaton could still take there, as is done for models that write from
left to right, has no such guarantee in parallel: two positions may each choose well and be wrong together.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from kuosan.core.posteriors import Categorical
from kuosan.core.shapes import State, Time
from kuosan.denoisers.base import Denoiser
from kuosan.errors import UserError
from kuosan.guidance.language.chain import Accepted
from kuosan.guidance.language.tokens import TokenAutomaton
from kuosan.processes.base import Process
from kuosan.processes.discrete import Masked


class Constrained(Denoiser):
    """A denoiser whose posterior is conditioned on a constraint.

    Classifier-free guidance belongs inside: what is around it would bend the marginals and lose their connection.

    Args:
        denoiser: any denoiser over tokens with the masked process, whose posterior is a `Categorical`.
        automaton: the constraint over the vocabulary's tokens (`tokens.lift`).

    Raises:
        UserError: the process is not `Masked`: where written tokens may still change, none can be relied on.
        ValueError: the automaton is of another vocabulary.
    """

    needs: ClassVar[type[Process]] = Masked

    def __init__(self, denoiser: Denoiser, automaton: TokenAutomaton):
        super().__init__()
        process = denoiser.process
        if not isinstance(process, Masked):
            raise UserError(
                f"constraints on text need a model with masked tokens, and this one has {type(process).__name__}: "
                "train one with the masked process, or sample without constraints"
            )
        if process.size != len(automaton.pieces):
            raise ValueError(
                f"the constraint is lifted to {len(automaton.pieces)} tokens, the denoiser's vocabulary has "
                f"{process.size}"
            )
        self.denoiser, self.automaton, self.process = denoiser, automaton, process

    def along(self, times: tuple[Time, ...], like: State) -> Denoiser:
        return Constrained(self.denoiser.along(times, like), self.automaton)

    def forward(self, x_t: State, t: Time, **cond: Tensor) -> Accepted:
        """q(x | x_t, accepted) of tokens (b, L); what ``x_t`` has written is certain.

        Raises:
            UserError: no text that keeps what is written satisfies the constraint.
        """
        q = self.denoiser(x_t, t, **cond)
        if not isinstance(q, Categorical):
            raise TypeError(f"constraints bend probabilities of tokens, not a {type(q).__name__}")
        return Accepted(q, x_t, self.automaton)
