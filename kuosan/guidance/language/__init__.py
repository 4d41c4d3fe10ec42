"""Constraints on text that hold with certainty.

A constraint is an `Automaton` over characters: `matching` a regular expression, `containing` or `avoiding` words, of a
`length`, `starting` or `ending` with a text, a `json_schema`, or a template's. Join them with ``&``, `lift` the
result to the tokens of a vocabulary, and wrap a denoiser: `Constrained(denoiser, lift(constraint, pieces, end))`.
"""

from __future__ import annotations

from kuosan.guidance.language.automaton import Automaton, intersection
from kuosan.guidance.language.chain import Accepted
from kuosan.guidance.language.constrained import Constrained
from kuosan.guidance.language.patterns import avoiding, containing, ending, length, starting
from kuosan.guidance.language.regex import matching
from kuosan.guidance.language.schema import json_schema
from kuosan.guidance.language.template import Candidate, Gap, Template, fill, parse_template
from kuosan.guidance.language.tokens import TokenAutomaton, lift

__all__ = [
    "Accepted",
    "Automaton",
    "Candidate",
    "Constrained",
    "Gap",
    "Template",
    "TokenAutomaton",
    "avoiding",
    "containing",
    "ending",
    "fill",
    "intersection",
    "json_schema",
    "length",
    "lift",
    "matching",
    "parse_template",
    "starting",
]
