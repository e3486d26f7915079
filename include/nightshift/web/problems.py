"""Errors of the API as ``application/problem+json`` (RFC 9457)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import HTTPException, RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException as StarletteHTTPException

from nightshift.errors import (
    ConfigError,
    DatabaseError,
    DatabaseUnavailable,
    NightshiftError,
    NoChampion,
    RowsRefused,
    ScoringError,
)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = {"Retry-After": "5"}
"""In seconds: an embedded server starts in less."""

MOST_FAULTS = 100
MOST_ROWS = 20

_log = logging.getLogger(__name__)

_STATUS: Mapping[type[NightshiftError], HTTPStatus] = {
    DatabaseUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    NoChampion: HTTPStatus.CONFLICT,
    ConfigError: HTTPStatus.CONFLICT,
    ScoringError: HTTPStatus.UNPROCESSABLE_ENTITY,
}


class Fault(BaseModel):
    """One thing that is wrong: a parameter, or a place in the body."""

    detail: str
    parameter: str | None = Field(
        default=None, description="The parameter of the path or the query"
    )
    pointer: str | None = Field(default=None, description="JSON pointer into the body")
    rows: list[int] | None = Field(
        default=None, description=f"The rows it is about, from 0; the first {MOST_ROWS} of them"
    )


class Problem(BaseModel):
    """What went wrong, to what, and what to do (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str | None = Field(default=None, description="The error's name in the audit trail")
    errors: list[Fault] | None = Field(
        default=None, description="Everything that is wrong, not the first"
    )


class Refusal(Exception):
    """A request that is answered with a problem."""

    def __init__(self, status: HTTPStatus, detail: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.faults = faults


def install(app: FastAPI) -> None:
    """Let every error of an application leave it as a problem."""
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(StarletteHTTPException, http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(NightshiftError, _ours)
    app.add_exception_handler(Exception, _unforeseen)


def about(where: Sequence[int | str], message: str) -> Fault:
    """A fault at a place as pydantic tells it: ``("query", "limit")``, ``("body", "rows", 3)``."""
    told = message.removeprefix("Value error, ")
    kind, *inside = where or ("body",)
    if kind == "body":
        return Fault(detail=told, pointer="#" + "".join(f"/{_escaped(part)}" for part in inside))
    return Fault(detail=told, parameter=str(inside[0]) if inside else None)


def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refusal)
    return _answer(error.status, str(error), faults=error.faults)


def http(request: Request, error: Exception) -> JSONResponse:
    """A refusal that has a status already."""
    assert isinstance(error, StarletteHTTPException)
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.UNAUTHORIZED:
        headers.setdefault("WWW-Authenticate", "Bearer")
    return _answer(HTTPStatus(error.status_code), _sentence(request, error), headers=headers)


def _sentence(request: Request, error: HTTPException | StarletteHTTPException) -> str:
    plain = HTTPStatus(error.status_code).phrase
    if error.detail != plain:
        return str(error.detail)
    if error.status_code == HTTPStatus.NOT_FOUND:
        return "there is no such path; openapi.json lists them all"
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return f"{request.method} means nothing to this path; the header Allow says what does"
    return plain


def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    faults = [about(one["loc"], _message(one)) for one in error.errors()]
    named = "; ".join(f"{one.parameter or one.pointer}: {one.detail}" for one in faults[:3])
    return _answer(HTTPStatus.UNPROCESSABLE_ENTITY, named, faults=faults)


def _message(error: Mapping[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return "is unknown here; openapi.json lists what is accepted"
    return str(error["msg"])


def _ours(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, NightshiftError)
    status = next(
        (status for kind, status in _STATUS.items() if isinstance(error, kind)),
        HTTPStatus.INTERNAL_SERVER_ERROR,
    )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("%s %s: %s", request.method, request.url.path, error, exc_info=error)
    return _answer(
        status,
        _told(error),
        code=error.code,
        faults=list(_row_faults(error)) if isinstance(error, RowsRefused) else (),
        headers=RETRY_AFTER if error.transient else None,
    )


def _told(error: NightshiftError) -> str:
    """The error's sentence; what a driver says names hosts and statements, so it stays here."""
    if error.transient:
        return "the database cannot be reached, or is too busy to answer in time; try again"
    if isinstance(error, DatabaseError):
        return "the database refused a statement; the log of the server says which"
    if isinstance(error, RowsRefused):
        return f"no row was scored: {len(error.problems)} things are wrong, see errors"
    return str(error)


def _row_faults(error: RowsRefused) -> Iterator[Fault]:
    for one in error.problems[:MOST_FAULTS]:
        fault = about(("body", "rows", one.rows[0], one.column), str(one))
        yield fault.model_copy(update={"rows": list(one.rows[:MOST_ROWS])})
    left = len(error.problems) - MOST_FAULTS
    if left > 0:
        yield Fault(detail=f"and {left} more", pointer="#/rows")


def _unforeseen(request: Request, error: Exception) -> JSONResponse:
    return _answer(
        HTTPStatus.INTERNAL_SERVER_ERROR, "an error of ours; the log of the server has it"
    )


def _answer(
    status: HTTPStatus,
    detail: str,
    *,
    code: str | None = None,
    faults: Sequence[Fault] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    problem = Problem(
        title=status.phrase,
        status=status,
        detail=detail,
        code=code,
        errors=list(faults[:MOST_FAULTS]) or None,
    )
    content = problem.model_dump(exclude_none=True)
    return JSONResponse(content, status, dict(headers or {}), media_type=MEDIA_TYPE)


def _escaped(part: int | str) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")
