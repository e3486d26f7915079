"""The keys of model.yaml and nightshift.yaml, explained once: ``make reference`` writes them here.

It writes the pages of :mod:`docs.surfaces` as well.

Each key has one ``Field(description=...)`` in ``nightshift.family`` or ``nightshift.site``. From it
come the tables of ``docs/models.md``, between its comments ``keys`` and ``end``, and the
descriptions of ``docs/model.schema.json``, which editors show.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel

from nightshift.family import Inline, ModelFamily
from nightshift.site import Settings

DOCS = Path(__file__).resolve().parent

FILES: dict[str, type[BaseModel]] = {"model.yaml": ModelFamily, "nightshift.yaml": Settings}
"""What each file may say."""

_TABLE = re.compile(r"(<!-- keys of (\S+): (.*?) -->\n).*?(<!-- end of keys -->)", re.DOTALL)
_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")


class Row(NamedTuple):
    """A key as the table tells it, each part in Markdown."""

    key: str
    values: str
    default: str
    meaning: str


def render(page: str) -> str:
    """The page with its tables made anew.

    Raises
    ------
    LookupError
        A key of a file is in no table of the page, or a table names a key that is not there.
    """
    unnamed = {file: set(model.model_fields) for file, model in FILES.items()}

    def table(match: re.Match[str]) -> str:
        head, file, names, end = match.groups()
        keys = names.split()
        absent = [key for key in keys if key not in unnamed[file]]
        if absent:
            raise LookupError(f"{file} has no key {absent[0]!r}, or two tables of the page name it")
        unnamed[file] -= set(keys)
        rows = [row for key in keys for row in rows_of(FILES[file], only=key)]
        return head + _markdown(rows) + end

    rendered = _TABLE.sub(table, page)
    for file, names in unnamed.items():
        if names:
            raise LookupError(
                f"no table of docs/models.md names {min(names)!r} of {file}; add it to a"
                f' comment "keys of {file}"'
            )
    return rendered


def rows_of(section: type[BaseModel], prefix: str = "", only: str | None = None) -> Iterator[Row]:
    """The keys of a section and of those in it, in the order in which they are declared.

    A key without a description of its own is explained by the keys inside it.
    """
    schema = section.model_json_schema()
    for name, field in section.model_fields.items():
        if only and name != only:
            continue
        key, shape = prefix + name, schema["properties"][name]
        if field.description:
            yield Row(key, values_of(shape), _default(shape), field.description)
        inside, step = _inside(field.annotation)
        if inside:
            yield from rows_of(inside, f"{key}{step}.")


def _inside(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """The section that a key holds, and how the way to it is written in the key."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (None if issubclass(annotation, Inline) else annotation), ""
    step = {list: "[]", dict: ".<name>"}.get(get_origin(annotation), "")
    for part in get_args(annotation):
        section, further = _inside(part)
        if section:
            return section, step + further
    return None, ""


def values_of(shape: dict[str, Any]) -> str:
    """What may be written there, in a few words."""
    if "$ref" in shape:
        return _INLINE.get(shape["$ref"].rsplit("/", 1)[1], "the keys below")
    if "anyOf" in shape:
        forms = sorted(map(values_of, shape["anyOf"]), key="null".__eq__)
        return " or ".join(forms)
    if "enum" in shape or "const" in shape:
        return ", ".join(f"`{value}`" for value in shape.get("enum", [shape.get("const")]))
    return _WORDS.get(shape.get("type", ""), _anything)(shape)


def _anything(_shape: dict[str, Any]) -> str:
    return "anything"


def _mapping(shape: dict[str, Any]) -> str:
    inside = shape.get("additionalProperties")
    return f"name to {values_of(inside) if isinstance(inside, dict) else 'anything'}"


def _bounds(shape: dict[str, Any]) -> str:
    words = {
        "minimum": "from",
        "exclusiveMinimum": "above",
        "maximum": "to",
        "exclusiveMaximum": "below",
    }
    return "".join(f" {word} {shape[name]}" for name, word in words.items() if name in shape)


_WORDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "array": lambda shape: f"list of {values_of(shape['items'])}",
    "boolean": lambda _: "`true`, `false`",
    "integer": lambda shape: f"whole number{_bounds(shape)}",
    "null": lambda _: "null",
    "number": lambda shape: f"number{_bounds(shape)}",
    "object": _mapping,
    "string": lambda shape: "duration" if shape.get("format") == "duration" else "text",
}

_INLINE = {
    section.__name__: f"`{{{', '.join(section.model_fields)}}}`"
    for inline in Inline.__subclasses__()
    for section in (inline, *inline.__subclasses__())
}


def _default(shape: dict[str, Any]) -> str:
    """A default as it is written in the file; nothing where the key must be given."""
    if "default" not in shape:
        return ""
    value = shape["default"]
    if value is None:
        return "null"
    return "all" if value and value == shape.get("items", {}).get("enum") else f"`{_flow(value)}`"


def _flow(value: Any) -> str:
    """A value in one line of YAML; what is null or empty inside of it is left out."""
    if isinstance(value, dict):
        given = {key: part for key, part in value.items() if part not in (None, {}, [])}
        return "{" + ", ".join(f"{key}: {_flow(part)}" for key, part in given.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return value if isinstance(value, str) else json.dumps(value)


def _markdown(rows: list[Row]) -> str:
    lines = [
        f"| `{row.key}` | {row.values} | {row.default} | {row.meaning} |".replace("|  |", "| |")
        for row in rows
    ]
    return "\n".join(["| key | values | default | meaning |", "|---|---|---|---|", *lines, ""])


def schema() -> str:
    """The JSON schema of model.yaml; links of the page stand in it as their words."""
    text = json.dumps(ModelFamily.model_json_schema(), indent=2, ensure_ascii=False)
    return _LINK.sub(r"\1", text) + "\n"


def main() -> None:
    from docs import surfaces

    page = DOCS / "models.md"
    page.write_text(render(page.read_text()))
    (DOCS / "cli.md").write_text(surfaces.cli())
    (DOCS / "rest.md").write_text(surfaces.rest())
    (DOCS / "model.schema.json").write_text(schema())


if __name__ == "__main__":
    main()
