"""What a schema's automaton accepts is JSON that satisfies the schema, judged by hand-written checks; keywords that
cannot be kept are refused."""

from __future__ import annotations

import json
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kuosan.core.posteriors import Categorical
from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.guidance.language import Accepted, json_schema, lift
from kuosan.guidance.language.integers import integers

bounds = st.one_of(st.none(), st.integers(-1200, 1200))


@given(bounds, bounds)
def test_integers_between_bounds_are_exactly_those(low: int | None, high: int | None) -> None:
    if low is not None and high is not None and low > high:
        low, high = high, low
    pattern = re.compile(integers(low, high))
    for n in range(-1300, 1301):
        inside = (low is None or low <= n) and (high is None or n <= high)
        assert (pattern.fullmatch(str(n)) is not None) == inside, n
    assert not any(pattern.fullmatch(s) for s in ("-0", "00", "01", "+1", "", "-"))


def drawn(schema: dict[str, object], window: int = 60, n: int = 60) -> list[object]:
    """Values of random texts that the schema accepts; what is drawn must parse."""
    pieces = (*(bytes([c]) for c in range(32, 127)), "é".encode(), "中".encode(), b"")
    lifted = lift(json_schema(schema), pieces, len(pieces) - 1)
    logits = torch.randn(n, window, len(pieces), generator=torch.Generator().manual_seed(0))
    logits[..., -1] += 3  # short texts too
    x = Accepted(Categorical(logits), torch.full((n, window), len(pieces)), lifted).sample(Seeds.of(0, n))
    return [json.loads(b"".join(pieces[v] for v in row)) for row in x.tolist()]


def test_optional_properties_come_and_go_and_required_ones_stay() -> None:
    names = {"a": {"type": "null"}, "b": {"type": "boolean"}, "c": {"type": "null"}}
    for required in ([], ["b"], ["a", "c"]):
        schema = {"type": "object", "properties": names, "required": required}
        accepts = json_schema(schema).accepts
        for i in range(8):
            value = {k: k == "b" or None for j, k in enumerate("abc") if i >> j & 1}
            assert accepts(json.dumps(value)) == (set(required) <= value.keys()), value
        assert all(set(required) <= set(value) <= set("abc") for value in drawn(schema, 40))  # type: ignore[call-overload]


def test_strings_count_their_characters_and_arrays_their_items() -> None:
    values = drawn(
        {"type": "array", "minItems": 1, "maxItems": 3, "items": {"type": "string", "maxLength": 4}}
    )
    assert {len(v) for v in values} == {1, 2, 3}  # type: ignore[arg-type]
    assert all(isinstance(s, str) and len(s) <= 4 for v in values for s in v)  # type: ignore[attr-defined]
    assert all(len(v) == 3 for v in drawn({"type": "string", "minLength": 3, "maxLength": 3}))  # type: ignore[arg-type]


def test_numbers_patterns_formats_and_choices() -> None:
    assert all(isinstance(v, (int, float)) and v is not True for v in drawn({"type": "number"}, 12))
    assert all(5 < v < 12 for v in drawn({"type": "integer", "exclusiveMinimum": 5, "exclusiveMaximum": 12}))  # type: ignore[operator]
    assert all(re.search("[a-c]x$", v) for v in drawn({"type": "string", "pattern": "[a-c]x$"}, 12))  # type: ignore[call-overload]
    assert all(re.fullmatch("[a-c]x", v) for v in drawn({"type": "string", "pattern": "^[a-c]x$"}))  # type: ignore[call-overload]
    assert set(drawn({"enum": ["é", 3, "3"], "type": "string"})) == {"é", "3"}
    date = json_schema({"type": "string", "format": "date"})
    assert date.accepts('"2026-11-30"') and not date.accepts('"2026-11-31"')


def test_references_and_unions_as_pydantic_writes_them() -> None:
    from pydantic import BaseModel, Field

    class Part(BaseModel):
        name: str = Field(max_length=3)

    class Whole(BaseModel):
        parts: list[Part] = Field(max_length=2)
        note: str | None = Field(None, max_length=5)

    schema = Whole.model_json_schema()
    for value in drawn(schema, 100):
        Whole.model_validate(value)
    accepts = json_schema(schema).accepts
    assert accepts('{"parts": [{"name": "abc"}, {"name":""}], "note": null}')
    assert not accepts('{"parts": [{"name": "abcd"}]}') and not accepts('{"note": null}')


def test_white_space_is_the_users_choice() -> None:
    schema = {"type": "array", "items": {"type": "boolean"}, "minItems": 2}
    tight, loose = json_schema(schema, space=""), json_schema(schema, space=r"\s*")
    assert tight.accepts("[true,false]") and not tight.accepts("[true, false]")
    assert loose.accepts("[\n  true,\n  false\n]")


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "number", "minimum": 3}, "'minimum', which cannot be kept"),
        ({"type": "object", "properties": {"a": {"type": "null", "not": {}}}}, "#/properties/a uses 'not'"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}}, "contains itself"),
        ({"$ref": "#/$defs/b"}, "not in it"),
        ({}, "no type"),
        ({"type": "array"}, "leaves #/items open"),
        ({"type": "object", "required": ["a"]}, "requires a without"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "no integer between 3 and 2"),
        ({"type": "string", "pattern": "."}, "quotes"),
        ({"type": "string", "format": "email"}, "format 'email'"),
        ({"type": "boolean", "enum": [3]}, "no value of its type"),
        ('{"type": ', "is no JSON"),
        ("[]", "is an object"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused(schema: object, says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        json_schema(schema)  # type: ignore[arg-type]
