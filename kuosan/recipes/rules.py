"""What a person asks of samples of a text, as the rules that sampling keeps to.

A template is laid out in tokens in several ways, one per combination of lengths of its gaps (`guidance.language`).
Each is filled a few times and the fillings are judged by the model's own bound of the whole window, which is the same
length for all of them: the layout that the model is least surprised by is the one that is used.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.guidance.language import (
    Automaton,
    Candidate,
    avoiding,
    containing,
    fill,
    intersection,
    json_schema,
    lift,
    matching,
    parse_template,
)
from kuosan.processes.discrete import Masked
from kuosan.recipes.build import objective_of
from kuosan.recipes.tokens import Rules

if TYPE_CHECKING:
    from kuosan.recipes.run import Run

TRIALS, TIMES = 2, 8  # fillings of a layout, and times of each one's bound
STEPS = 8  # of a filling, at most: there are many layouts, and what they are compared by is the same for all


@dataclass(frozen=True)
class Wishes:
    """In a person's words.

    Args:
        template: text with gaps, ``[[gap]]``, ``[[gap:20]]`` or ``[[gap:5-12]]`` characters.
        prefix, suffix: what texts begin and end with.
        regex: a regular expression that whole texts match. schema: a JSON schema that they satisfy, or its file.
        require, forbid: words that all, or none, of the texts contain. ignore_case: of these.
    """

    template: str | None = None
    prefix: str | None = None
    suffix: str | None = None
    regex: str | None = None
    schema: Any = None
    require: tuple[str, ...] = ()
    forbid: tuple[str, ...] = ()
    ignore_case: bool = False

    def __bool__(self) -> bool:
        return any(getattr(self, f.name) for f in fields(self) if f.name != "ignore_case")


def rules_of(run: Run, wishes: Wishes, seed: int = 0, where: dict[str, str] | None = None) -> Rules | None:
    """The rules of a run's samples; None where nothing is asked.

    Raises:
        UserError: the run has no masks to keep to rules with; a template, pattern or schema is malformed; or no text
            satisfies all of it.
    """
    if not wishes:
        return None
    if not isinstance(run.model.process, Masked):
        raise UserError(
            f"templates and constraints are for texts under masks, and {run.path} is {run.model.process}: leave them "
            "away, or train with --set process=masked"
        )
    tokeniser = run.modality.tokeniser  # type: ignore[attr-defined]
    length = run.latent_shape[0]
    asked = _asked(wishes)
    text = _template(wishes)
    layouts: tuple[Candidate, ...] = () if text is None else fill(parse_template(text), tokeniser, length)
    made = [_rules(tokeniser, layout, asked) for layout in layouts] or [_rules(tokeniser, None, asked)]
    return made[0] if len(made) == 1 else _likeliest(run, made, seed, where)


def _rules(tokeniser: Any, layout: Candidate | None, asked: list[Automaton]) -> Rules:
    automata = [*asked, *([layout.automaton] if layout and layout.automaton else [])]
    lifted = lift(intersection(*automata), tokeniser.pieces, tokeniser.end) if automata else None
    return Rules(layout.state if layout else None, lifted)


def _asked(wishes: Wishes) -> list[Automaton]:
    found = []
    if wishes.regex:
        found.append(matching(wishes.regex, what=f"the regular expression {wishes.regex!r}"))
    if wishes.schema:
        found.append(json_schema(_schema(wishes.schema)))
    if wishes.require:
        found.append(containing(*wishes.require, ignore_case=wishes.ignore_case, whole=True))
    if wishes.forbid:
        found.append(avoiding(*wishes.forbid, ignore_case=wishes.ignore_case, whole=True))
    return found


def _schema(given: Any) -> Any:
    if not isinstance(given, (str, Path)):
        return given
    path = Path(given)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        why = getattr(e, "strerror", None) or str(e)
        raise UserError(f"the JSON schema {path} cannot be read ({why}): give a file that holds one") from e


def _template(wishes: Wishes) -> str | None:
    """The template that these come to; prefix and suffix are taken literally."""
    if wishes.template is not None:
        if wishes.prefix or wishes.suffix:
            raise UserError("a template says how texts begin and end: give it, or --prefix and --suffix")
        return wishes.template
    if not wishes.prefix and not wishes.suffix:
        return None
    begin, end = (_literal(part or "") for part in (wishes.prefix, wishes.suffix))
    return f"{begin}[[gap]]{end}"


def _literal(text: str) -> str:
    return text.replace("[[", r"\[[")


def _likeliest(run: Run, made: list[Rules], seed: int, where: dict[str, str] | None) -> Rules:
    """The rules whose fillings surprise the model least; those that nothing satisfies are passed over."""
    objective, best, least = objective_of(run.facts.recipe).judged(), None, float("inf")
    steps = min(STEPS, run.facts.recipe.sampling.steps)
    refused: UserError | None = None
    for k, rules in enumerate(made):
        seeds = Seeds.of(seed, TRIALS).fold("layout", k)
        cond = run.conditions(seed, range(TRIALS), where)
        try:
            with torch.inference_mode():
                for step in run.walk(seeds, cond, steps=steps, rules=rules):
                    x = step.x
                nats = sum(
                    objective.at_quantiles(
                        run.model, x, torch.full((TRIALS,), (i + 0.5) / TIMES, dtype=torch.float64), seeds.fold(i),
                        **{name: v.to(x.device) for name, v in cond.items()},
                    )
                    for i in range(TIMES)
                )  # fmt: skip
        except UserError as error:
            refused = error
            continue
        if (value := float(torch.as_tensor(nats).mean())) < least:
            best, least = rules, value
    if best is None:
        assert refused is not None
        raise refused
    return best
