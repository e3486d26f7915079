"""What is wrong with a family, told by file, line and key, with what is accepted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from nightshift.family.values import PATTERNS
from nightshift.wording import listed, nearest

_DIGITS = r"[0-9](?:_?[0-9])*"
_NUMBERS = {
    "tag:yaml.org,2002:int": rf"[-+]?(?:0|(?!0){_DIGITS})",
    "tag:yaml.org,2002:float": rf"[-+]?(?:(?:{_DIGITS}\.(?:{_DIGITS})?|\.{_DIGITS})"
    rf"(?:[eE][-+]?[0-9]+)?|{_DIGITS}[eE][-+]?[0-9]+)|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
}
"""The numbers of YAML 1.2's core schema, with ``_`` between digits: 7, -8.0, .5, 1e-3, 1_000.

What YAML 1.1 also takes for numbers, and people for text, is text: 12:30:00, 0x1F, 0o17, 007.
"""


class _Yaml(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """libyaml where it is there, with the scalars of YAML 1.2's core schema.

    Only true and false are booleans: ``on`` is a key, NO a name. A date is text. A key that is
    written twice is refused: YAML would let the last one win.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in keys:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is written twice", key.start_mark
                )
            keys.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        text = node.value.lower().replace(".inf", "inf").replace(".nan", "nan")
        return int(text) if node.tag.endswith("int") else float(text)


_BOOLEAN = "tag:yaml.org,2002:bool"
_OTHERS = {_BOOLEAN, "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value", *_NUMBERS}
_Yaml.yaml_implicit_resolvers = {
    first: [resolver for resolver in resolvers if resolver[0] not in _OTHERS]
    for first, resolvers in _Yaml.yaml_implicit_resolvers.items()
}
_Yaml.add_implicit_resolver(
    _BOOLEAN, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
for _tag, _pattern in _NUMBERS.items():
    _Yaml.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), list("-+.0123456789"))
    _Yaml.add_constructor(_tag, _Yaml.construct_number)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in one file, as ``nightshift check`` prints it."""

    file: Path
    key: str
    message: str

    def __str__(self) -> str:
        return (
            f"{self.file}: {self.key}: {self.message}"
            if self.key
            else f"{self.file}: {self.message}"
        )


def read_yaml(file: Path) -> dict[str, Any] | Problem:
    """What a file says; an empty one, or one of comments only, says nothing."""
    try:
        raw = yaml.load(file.read_text(), _Yaml)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8
        return Problem(file, "", f"is not readable YAML: {_one_line(error)}")
    if not isinstance(raw, dict | None):
        return Problem(file, "", "holds a list or a single value, not keys and values")
    return raw or {}


def problems_of(
    file: Path, section: type[BaseModel], raw: dict[str, Any], error: ValidationError
) -> list[Problem]:
    """One problem for each place.

    Where a value may have several forms, pydantic tells why it is none of them: of keys and values
    what is wrong inside is told, of another value what each form asks for, joined.
    """
    places: dict[tuple[int | str, ...], list[Any]] = {}
    for item in error.errors():
        places.setdefault(_place(raw, item), []).append(item)
    return [
        Problem(file, ".".join(map(str, place)), _sentence(section, place, items))
        for place, items in places.items()
        if not any(longer[: len(place)] == place for longer in places if len(longer) > len(place))
    ]


def _place(raw: Any, error: Any) -> tuple[int | str, ...]:
    """Where in the file an error is; pydantic also names the forms that a value may have."""
    place: list[int | str] = []
    for part in error["loc"]:
        if isinstance(raw, dict):
            inside = part in raw
        else:
            inside = isinstance(raw, list) and isinstance(part, int)
        if inside:
            raw = raw[part]
            place.append(part)
    if error["type"] == "missing":
        place.append(error["loc"][-1])
    return tuple(place)


def _sentence(section: type[BaseModel], place: tuple[int | str, ...], errors: list[Any]) -> str:
    words = "; or ".join(dict.fromkeys(_message(section, place, error) for error in errors))
    value, kind = errors[0]["input"], errors[0]["type"]
    if not place or kind in ("missing", "extra_forbidden") or isinstance(value, dict):
        return words
    return f"found {_as_written(value)}: {words}"


def _message(section: type[BaseModel], place: tuple[int | str, ...], error: Any) -> str:
    kind = error["type"]
    if kind == "extra_forbidden":
        accepted = _accepted_keys(section, place[:-1])
        return f"unknown key{nearest(str(place[-1]), accepted)}; accepted: {listed(accepted)}"
    if kind == "model_type":
        return f"write keys and values (accepted: {listed(_accepted_keys(section, place))})"
    if kind == "string_pattern_mismatch":
        return PATTERNS[error["ctx"]["pattern"]]
    if kind in ("float_type", "int_type") and _is_quoted_number(error["input"]):
        return f"{_WORDS[kind]}, without quotes"
    message: str = _WORDS.get(kind) or error["msg"].removeprefix("Value error, ")
    return message.replace("Input should be", "must be") + _percent(error)


def _percent(error: Any) -> str:
    """What to write where a percent stands and a fraction is meant."""
    limit = {"less_than": "lt", "less_than_equal": "le"}.get(error["type"])
    if limit is None or error["ctx"][limit] != 1 or not 1 < error["input"] <= 100:
        return ""
    return f"; write {error['input'] / 100:g} for {error['input']:g} percent"


_WORDS = {
    "missing": "is missing",
    "model_attributes_type": "write keys and values",
    "dict_type": "write keys and values",
    "list_type": "write a list, even of one: [a]",
    "float_type": "write a number",
    "int_type": "write a whole number",
    "bool_type": "write true or false",
    "bool_parsing": "write true or false",
    "string_type": "write text; a number that is meant as text stands in quotes",
}
"""pydantic's errors in the words of a file's author."""


def _accepted_keys(section: type[BaseModel], place: Iterable[int | str]) -> list[str]:
    for part in place:
        field = section.model_fields.get(str(part))
        if field is None:  # a key of the user's own, such as the name of a group
            continue
        choices = [field.annotation, *get_args(field.annotation)]
        inside = [c for c in choices if isinstance(c, type) and issubclass(c, BaseModel)]
        section = inside[0] if inside else section
    return list(section.model_fields)


def _is_quoted_number(value: object) -> bool:
    return isinstance(value, str) and any(re.fullmatch(p, value) for p in _NUMBERS.values())


def _as_written(value: object) -> str:
    """A value as its author wrote it."""
    if value is None:
        return "nothing"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).replace(' in "<unicode string>",', " at").split())
