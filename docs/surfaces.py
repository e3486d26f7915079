"""The pages cli.md and rest.md, made of the commands and of the API: ``make reference``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import typer
from docs.reference import values_of
from typer.core import TyperGroup

from nightshift.cli import app
from nightshift.web import api, problems, schemas
from nightshift.web.host import Host

CLI_HEAD = """# Commands

Every command of `nightshift`, from its own help: `nightshift COMMAND --help` says the same. They
run in a [project](projects.md), or in a checkout as `.venv/bin/nightshift`. An error ends as one
message and exit code 1; wrong arguments end with 2.
"""

REST_HEAD = """# REST, path by path

Below `/nightshift/api/v1` on Airflow's api-server; [the REST API](api.md) has examples and what
holds everywhere. Figures of metrics are scikit-learn's own: greater is better, errors lie below
zero.
"""

Json = Mapping[str, Any]


def cli() -> str:
    """The page of every command."""
    return "\n".join([CLI_HEAD, *_commands(typer.main.get_command(app), "nightshift")])


def _commands(group: Any, path: str) -> Iterator[str]:
    for name, command in group.commands.items():
        whole = f"{path} {name}"
        if isinstance(command, TyperGroup):
            yield from _commands(command, whole)
        elif not command.hidden:
            yield from _command(command, whole)


def _command(command: Any, whole: str) -> Iterator[str]:
    given = [one for one in command.params if one.name != "help"]
    arguments = [_argument(one) for one in given if one.param_type_name == "argument"]
    options = ["[OPTIONS]"] if len(given) > len(arguments) else []
    usage = " ".join([whole, *arguments, *options])
    yield f"## `{whole}`\n\n{_prose(command.help)}\n\n```\n{usage}\n```\n"
    if given:
        yield _table(("", "default", "meaning"), [_parameter(one) for one in given])


def _argument(argument: Any) -> str:
    name = argument.name.upper() + ("..." if argument.nargs != 1 else "")
    return name if argument.required else f"[{name}]"


def _parameter(one: Any) -> tuple[str, str, str]:
    option = one.param_type_name == "option"
    names = [*one.opts, *one.secondary_opts] if option else [_argument(one)]
    default = "" if one.default is None or one.default is False else f"`{one.default}`"
    if option and one.default is True:
        default = f"`{one.opts[0]}`"
    return (
        ", ".join(f"`{name}`" for name in names),
        "must be given" if one.required and option else default,
        _prose(one.help),
    )


def rest() -> str:
    """The page of every path, and of what is sent and answered."""
    described = problems.describe(api.create(cast("Host", None)), [schemas.Rows])
    parts = [REST_HEAD]
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            parts += _operation(f"{method.upper()} {path}", operation)
    parts.append("## Answers and bodies\n")
    for name, schema in described["components"]["schemas"].items():
        if schema.get("properties"):
            parts += _schema(name, schema)
    parts.append("## Errors\n")
    errors = described["components"]["responses"].items()
    parts.append(
        _table(("status", "meaning"), [(code, one["description"]) for code, one in errors])
    )
    return "\n".join(parts)


def _operation(title: str, operation: Json) -> Iterator[str]:
    yield f"## `{title}`\n\n{_prose(operation.get('description'))}\n"
    rows = [
        (
            f"`{one['name']}`",
            one["in"],
            _kind(one["schema"]),
            _prose(one.get("description") or one["schema"].get("description")),
        )
        for one in operation.get("parameters", ())
    ]
    if rows:
        yield _table(("parameter", "in", "values", "meaning"), rows)
    for what, holder in (
        ("Body", operation.get("requestBody", {})),
        ("Answer", operation["responses"].get("200", {})),
    ):
        for content in holder.get("content", {}).values():
            yield f"{what}: {_kind(content['schema'])}.\n"


def _schema(name: str, schema: Json) -> Iterator[str]:
    yield f"### {name}\n\n{_prose(schema.get('description'))}\n"
    rows = [
        (f"`{key}`", _kind(value), _prose(value.get("description")))
        for key, value in schema["properties"].items()
    ]
    yield _table(("field", "values", "meaning"), rows)


def _kind(shape: Json) -> str:
    """What may be there, in a few words; what has fields of its own by a link to them."""
    if "$ref" in shape:
        name = shape["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})" if name != "JsonValue" else "anything"
    if "anyOf" in shape:
        return " or ".join(sorted(map(_kind, shape["anyOf"]), key="null".__eq__))
    if shape.get("type") == "array":
        return f"list of {_kind(shape.get('items', {}))}"
    if shape.get("format") == "date-time":
        return "moment"
    return values_of(dict(shape))


def _table(heading: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [heading, ("---",) * len(heading), *rows]
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"


def _prose(text: str | None) -> str:
    return " ".join((text or "").split())
