"""JSON schemas as regular expressions.

A schema without recursion describes a regular set of texts. The expression written here matches only texts that
parse as JSON and satisfy the schema; it does not match all of them, as there is no need for every spelling of a
value: properties come in the schema's order and no others are added, strings use the short escapes, and white
space is what ``space`` allows between the marks. A keyword whose meaning would be lost is refused by name, never
ignored: a constraint that holds with certainty may not leave one out. (Translators for language models commonly skip
``minimum``, say.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from kuosan.errors import UserError
from kuosan.guidance.language.automaton import Automaton
from kuosan.guidance.language.integers import integers
from kuosan.guidance.language.regex import matching

_CHARACTER = r'(?:[^"\\\x00-\x1f]|\\["\\/bfnrt])'
_NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_FORMATS = {
    "date": r"[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|"
    r"(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))",
    "uuid": r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
}
_SAID = {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "type"}
_SAID |= {"$schema", "$id", "$comment", "$defs", "definitions"}
_USED = {
    "string": {"minLength", "maxLength", "pattern", "format"},
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "number": set[str](),
    "boolean": set[str](),
    "null": set[str](),
    "array": {"items", "minItems", "maxItems"},
    "object": {"properties", "required", "additionalProperties"},
}


def json_schema(schema: Mapping[str, Any] | str, space: str = " ?") -> Automaton:
    """All texts, in one spelling or a few, of JSON values that satisfy a schema.

    Args:
        schema: the schema, as a mapping or as JSON.
        space: a regular expression of the white space after ``{ [ , :`` and before ``} ]``.

    Raises:
        UserError: the schema is no JSON, refers to itself, uses a keyword that cannot be kept, or leaves a type open.
    """
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except json.JSONDecodeError as e:
            raise UserError(f"the JSON schema is no JSON: {e}") from e
    if not isinstance(schema, Mapping):
        raise UserError('a JSON schema is an object, such as {"type": "integer"}: give one')
    title = f" {schema['title']!r}" if "title" in schema else ""
    return matching(
        _Translation(schema, f"(?:{space})").value(schema, "#", ()), what=f"the JSON schema{title}"
    )


class _Translation:
    """Expressions of a schema's parts; ``at`` is where in the schema, ``open_refs`` what is being followed."""

    def __init__(self, root: Mapping[str, Any], space: str):
        self.root, self.space = root, space

    def value(self, schema: Any, at: str, open_refs: tuple[str, ...]) -> str:
        if not isinstance(schema, Mapping):
            raise UserError(f"the JSON schema leaves {at} open: give it a type")
        if "$ref" in schema:
            _only(schema, {"$ref"}, at)
            return self._ref(schema["$ref"], at, open_refs)
        if "const" in schema or "enum" in schema:
            _only(schema, {"const", "enum"} - ({"enum"} if "const" in schema else set()), at)
            values = schema["enum"] if "enum" in schema else [schema["const"]]
            values = [v for v in values if "type" not in schema or _kind(v) in schema["type"]]
            if not values:
                raise UserError(f"the JSON schema's {at} lists no value of its type: correct one of them")
            return _either(re.escape(json.dumps(v, ensure_ascii=False)) for v in values)
        for joined in ("anyOf", "allOf"):
            if joined in schema:
                _only(schema, {joined}, at)
                parts = schema[joined]
                if joined == "allOf" and len(parts) > 1:
                    raise UserError(
                        f"the JSON schema has several parts in allOf at {at}: merge them into one"
                    )
                return _either(self.value(p, f"{at}/{joined}/{i}", open_refs) for i, p in enumerate(parts))
        kinds = schema.get("type")
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if not kinds or not set(kinds) <= _USED.keys():
            raise UserError(
                f"the JSON schema's {at} has no type that is known: give one of {', '.join(_USED)}"
            )
        _only(schema, set().union(*(_USED[kind] for kind in kinds)), at)
        return _either(getattr(self, f"_{kind}")(schema, at, open_refs) for kind in kinds)

    def _ref(self, ref: str, at: str, open_refs: tuple[str, ...]) -> str:
        if ref in open_refs:
            raise UserError(
                f"the JSON schema's {ref} contains itself, to any depth: write out the levels you need"
            )
        found: Any = self.root
        for name in ref.removeprefix("#").strip("/").split("/"):
            found = found.get(name) if isinstance(found, Mapping) else None
        if not ref.startswith("#/") or found is None:
            raise UserError(
                f"the JSON schema refers at {at} to {ref!r}, which is not in it: add it under $defs"
            )
        return self.value(found, ref, (*open_refs, ref))

    def _string(self, schema: Mapping[str, Any], at: str, open_refs: tuple[str, ...]) -> str:
        extra = [k for k in ("pattern", "format") if k in schema]
        if not extra:
            least, most = schema.get("minLength", 0), schema.get("maxLength", "")
            return f'"{_CHARACTER}{{{least},{most}}}"'
        if len(extra) > 1 or "minLength" in schema or "maxLength" in schema:
            raise UserError(
                f"the JSON schema's {at} has {extra[0]} beside other limits: put all into one pattern"
            )
        if extra == ["format"]:
            if schema["format"] not in _FORMATS:
                raise UserError(
                    f"the JSON schema's {at} has the format {schema['format']!r}: give a pattern instead"
                )
            return f'"{_FORMATS[schema["format"]]}"'
        # A schema's pattern may match anywhere, ours as a whole.
        body = schema["pattern"]
        before = "" if body.startswith("^") else f"{_CHARACTER}*"
        after = "" if body.endswith("$") and not body.endswith(r"\$") else f"{_CHARACTER}*"
        body = f"(?:{body.removeprefix('^')[: -1 if not after else None]})"
        try:
            matching(body) & matching(r'(?s:.*["\\\x00-\x1f].*)')
        except UserError:
            return f'"{before}{body}{after}"'
        raise UserError(
            f"the JSON schema's pattern at {at} allows quotes, backslashes or line breaks, which JSON must escape: "
            "exclude them"
        )

    def _integer(self, schema: Mapping[str, Any], at: str, open_refs: tuple[str, ...]) -> str:
        lows = [schema["minimum"]] if "minimum" in schema else []
        highs = [schema["maximum"]] if "maximum" in schema else []
        lows += [schema["exclusiveMinimum"] + 1] if "exclusiveMinimum" in schema else []
        highs += [schema["exclusiveMaximum"] - 1] if "exclusiveMaximum" in schema else []
        if any(isinstance(v, bool) or v != int(v) for v in lows + highs):
            raise UserError(f"the JSON schema's {at} bounds an integer by something else: give whole numbers")
        low, high = max(map(int, lows), default=None), min(map(int, highs), default=None)
        if low is not None and high is not None and low > high:
            raise UserError(
                f"the JSON schema's {at} has no integer between {low} and {high}: give a rising range"
            )
        return integers(low, high)

    def _number(self, schema: Mapping[str, Any], at: str, open_refs: tuple[str, ...]) -> str:
        return _NUMBER

    def _boolean(self, schema: Mapping[str, Any], at: str, open_refs: tuple[str, ...]) -> str:
        return "(?:true|false)"

    def _null(self, schema: Mapping[str, Any], at: str, open_refs: tuple[str, ...]) -> str:
        return "null"

    def _array(self, schema: Mapping[str, Any], at: str, open_refs: tuple[str, ...]) -> str:
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        if most is not None and most < max(least, 0):
            raise UserError(f"the JSON schema's {at} has maxItems below minItems: give a rising range")
        s = self.space
        if most == 0:
            return rf"\[{s}\]"
        item = self.value(schema.get("items"), f"{at}/items", open_refs)
        more = f"{{{max(least - 1, 0)},{'' if most is None else most - 1}}}"
        some = f"{item}(?:,{s}{item}){more}"
        return rf"\[{s}{some}{s}\]" if least else rf"\[{s}(?:{some})?{s}\]"

    def _object(self, schema: Mapping[str, Any], at: str, open_refs: tuple[str, ...]) -> str:
        s, properties = self.space, schema.get("properties", {})
        required = set(schema.get("required", ()))
        if not required <= properties.keys():
            missing = ", ".join(sorted(required - properties.keys()))
            raise UserError(
                f"the JSON schema's {at} requires {missing} without describing it: add it to properties"
            )
        first, later = (
            "",
            "",
        )  # the rest of the object where nothing stands before it, and where something does
        for name in reversed(properties):
            value = self.value(properties[name], f"{at}/properties/{name}", open_refs)
            pair = f"{re.escape(json.dumps(name, ensure_ascii=False))}:{s}{value}"
            if name in required:
                first, later = f"{pair}{later}", f",{s}{pair}{later}"
            else:
                first, later = f"(?:{pair}{later}|{first})", f"(?:,{s}{pair})?{later}"
        return rf"\{{{s}{first}{s}\}}"


def _kind(value: Any) -> str:
    """The name of a value's type in a schema."""
    if isinstance(value, bool) or value is None:
        return "null" if value is None else "boolean"
    names = {str: "string", int: "integer", float: "number", list: "array", dict: "object"}
    return names[type(value)]


def _only(schema: Mapping[str, Any], used: set[str], at: str) -> None:
    for keyword in schema:
        if keyword not in used | _SAID:
            raise UserError(
                f"the JSON schema's {at} uses {keyword!r}, which cannot be kept to with certainty here: "
                "leave it away and check for it afterwards"
            )


def _either(options: Any) -> str:
    return f"(?:{'|'.join(options)})"
