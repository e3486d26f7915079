"""Pages out of templates, and how values look on them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from markupsafe import Markup, escape

from nightshift import wording
from nightshift.web import drawing

TEMPLATES = Path(__file__).parent / "templates"


def figure(value: float | None) -> str:
    """A number as people read it."""
    if value is None:
        return drawing.NOTHING
    return wording.figure(value, 4)


def percent(value: float | None) -> str:
    """A fraction in percent, for reading only."""
    return drawing.NOTHING if value is None else wording.share(value)


def read(value: float | None, gauge: wording.Gauge) -> str:
    """A figure of a metric, in the direction in which people think of it."""
    return drawing.NOTHING if value is None else gauge.figure(value)


def timed(text: str) -> Markup:
    """A sentence in which moments can be read in the viewer's own zone."""
    pieces = []
    for piece in _MOMENT.split(text):
        if _MOMENT.fullmatch(piece):
            stamp = piece.replace(" ", "T")
            pieces.append(Markup('<time datetime="{}">{}</time>').format(stamp, piece))
        else:
            pieces.append(escape(piece))
    return Markup("").join(pieces)


_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)?Z)")


def when(value: datetime | None) -> str:
    """A moment as people read it, in UTC."""
    return wording.moment(value) if value else drawing.NOTHING


def moment(value: datetime) -> str:
    """A moment as addresses and files have it."""
    return value.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def segment(value: object) -> str:
    """A name as a part of an address."""
    return quote(str(value), safe="")


def brief(detail: Mapping[str, Any]) -> str:
    """What an event holds, in one line."""
    return ", ".join(f"{key} {value}" for key, value in detail.items())


def root(request: Request) -> str:
    """The path below which the pages are mounted, behind whatever proxy."""
    return str(request.scope.get("root_path", "")).rstrip("/")


@cache
def templates() -> jinja2.Environment:
    """Jinja, made once; what is put into a template is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    looks = (figure, percent, read, timed, when, moment, segment, brief)
    environment.filters |= {look.__name__: look for look in looks} | {"pretty": drawing.as_json}
    environment.globals |= {"words": drawing.STATES}
    return environment


def render(template: str, root: str, **values: Any) -> str:
    """A template with its values as HTML."""
    return templates().get_template(template).render(root=root, **values)


def generate(template: str, root: str, **values: Any) -> Iterable[str]:
    """The same piece by piece, each made when it is asked for."""
    return templates().get_template(template).generate(root=root, **values)


def page(
    request: Request,
    template: str,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> HTMLResponse:
    """A template as an answer."""
    return HTMLResponse(render(template, root(request), **values), status, headers)


def csv_file(name: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Response:
    """Rows as CSV: moments in ISO 8601, numbers in full, nothing that a spreadsheet would run."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_plain(row.get(column)) for column in columns])
    return download(text.getvalue(), "text/csv; charset=utf-8", f"{name}.csv")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, tuple | list):
        return " ".join(map(str, value))
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value


def download(content: str, kind: str, name: str) -> Response:
    """What a browser keeps as a file of this name."""
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{segment(name)}"}
    return Response(content, media_type=kind, headers=headers)
