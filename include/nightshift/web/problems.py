"""Errors over HTTP: their status, one map for all, and the API's ``application/problem+json``.

That is RFC 9457; the API's own description tells which problems a route may answer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import HTTPException, RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException as StarletteHTTPException

from nightshift.errors import (
    ArtifactRefused,
    ConfigError,
    DatabaseError,
    DatabaseUnavailable,
    InternalError,
    LabelsError,
    NightshiftError,
    RegistryError,
    RowsRefused,
    RowsRetired,
    ScoringError,
    SetupError,
    SnapshotError,
    SourceError,
    StorageError,
    StorageUnavailable,
    TrainingError,
)

T = TypeVar("T")

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = {"Retry-After": "5"}
"""In seconds: an embedded server starts in less."""

MOST_FAULTS = 100
MOST_ROWS = 20

_log = logging.getLogger(__name__)

STATUS: Mapping[type[NightshiftError], HTTPStatus] = {
    ConfigError: HTTPStatus.CONFLICT,
    SetupError: HTTPStatus.INTERNAL_SERVER_ERROR,
    SourceError: HTTPStatus.BAD_GATEWAY,
    SnapshotError: HTTPStatus.CONFLICT,
    ScoringError: HTTPStatus.UNPROCESSABLE_ENTITY,
    LabelsError: HTTPStatus.CONFLICT,
    TrainingError: HTTPStatus.CONFLICT,
    RegistryError: HTTPStatus.CONFLICT,
    ArtifactRefused: HTTPStatus.INTERNAL_SERVER_ERROR,
    InternalError: HTTPStatus.INTERNAL_SERVER_ERROR,
    RowsRetired: HTTPStatus.GONE,
    StorageError: HTTPStatus.INTERNAL_SERVER_ERROR,
    DatabaseError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""How our errors are answered over HTTP, by the nearest kind; a transient one always by 503."""

_TITLES: Mapping[type[NightshiftError], str] = {
    DatabaseError: "The database does not answer",
    StorageError: "The store does not answer",
}

_SENTENCES: Mapping[type[NightshiftError], str] = {
    DatabaseUnavailable: "the database cannot be reached, or is too busy to answer in time; try"
    " again",
    DatabaseError: "the database refused a statement; the log of the server says which",
    StorageUnavailable: "the store of snapshots and artifacts cannot be reached; try again",
    StorageError: "the store of snapshots and artifacts refused; the log of the server says why",
}
"""Said to programs instead of what a driver says, which names hosts, paths and statements."""


def status_of(error: NightshiftError) -> HTTPStatus:
    """How an error is answered: what may pass by itself is 503, whatever its kind."""
    if error.transient:
        return HTTPStatus.SERVICE_UNAVAILABLE
    return _of_kind(STATUS, error) or HTTPStatus.INTERNAL_SERVER_ERROR


def title_of(error: NightshiftError) -> str:
    """The headline of the page that tells an error."""
    return (_of_kind(_TITLES, error) if error.transient else None) or status_of(error).phrase


def headers_of(error: NightshiftError) -> Mapping[str, str]:
    """When to ask again, where that may help."""
    return RETRY_AFTER if error.transient else {}


def log(request: Request, error: NightshiftError) -> None:
    """Leave in the log what the answer does not say."""
    if status_of(error) >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("%s %s: %s", request.method, request.url.path, error, exc_info=error)


def _of_kind(table: Mapping[type[NightshiftError], T], error: NightshiftError) -> T | None:
    """What a table says of the nearest kind of an error."""
    return next((table[kind] for kind in type(error).__mro__ if kind in table), None)


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
    sentence = message.removeprefix("Value error, ")
    kind, *inside = where or ("body",)
    if kind == "body":
        return Fault(
            detail=sentence, pointer="#" + "".join(f"/{_escaped(part)}" for part in inside)
        )
    return Fault(detail=sentence, parameter=str(inside[0]) if inside else None)


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
    faults = [about(detail["loc"], _message(detail)) for detail in error.errors()]
    named = "; ".join(f"{fault.parameter or fault.pointer}: {fault.detail}" for fault in faults[:3])
    return _answer(HTTPStatus.UNPROCESSABLE_ENTITY, named, faults=faults)


def _message(error: Mapping[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return "is unknown here; openapi.json lists what is accepted"
    return str(error["msg"])


def _ours(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, NightshiftError)
    log(request, error)
    return _answer(
        status_of(error),
        _public_sentence(error),
        code=error.code,
        faults=list(_row_faults(error)) if isinstance(error, RowsRefused) else (),
        headers=headers_of(error),
    )


def _public_sentence(error: NightshiftError) -> str:
    if isinstance(error, RowsRefused):
        return f"no row was scored: {len(error.problems)} things are wrong, see errors"
    return _of_kind(_SENTENCES, error) or str(error)


def _row_faults(error: RowsRefused) -> Iterator[Fault]:
    for problem in error.problems[:MOST_FAULTS]:
        fault = about(("body", "rows", problem.rows[0], problem.column), str(problem))
        yield fault.model_copy(update={"rows": list(problem.rows[:MOST_ROWS])})
    more = len(error.problems) - MOST_FAULTS
    if more > 0:
        yield Fault(detail=f"and {more} more", pointer="#/rows")


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


# The description of the API ---------------------------------------------------------------------

_ERRORS = {
    "400": "The body is not JSON",
    "401": "Nobody is logged in",
    "403": "The user may not do this",
    "404": "It is not there, or the user may not see its family",
    "409": "The family has no champion yet, or its folder cannot be read",
    "410": "What is asked for was dropped by keep_predictions",
    "413": "The body is too large",
    "415": "The body is not application/json",
    "422": "A parameter or a row is wrong; errors names all of them",
    "500": "An error of ours, or of an installation: the log says more",
    "502": "A source refused, or answered with something else than its query should",
    "503": "The database or the store cannot be reached, or takes too long: nothing was changed,"
    " try again",
}
_ON_POST = {"400", "413", "415"}
_COOKIE = "_token"
"""Airflow's."""


def describe(app: FastAPI, models: Sequence[type[BaseModel]]) -> dict[str, Any]:
    """OpenAPI 3.1: every route with the problems it may answer, and the two ways to log in.

    Parameters
    ----------
    models
        What routes take beside their parameters.
    """
    description = get_openapi(
        title="Nightshift",
        version=app.version,
        description=app.description,
        routes=app.routes,
    )
    described: list[type[BaseModel]] = [Problem, *models]
    _, definitions = models_json_schema(
        [(model, "validation") for model in described],
        ref_template="#/components/schemas/{model}",
    )
    components = description["components"]
    components["schemas"].update(definitions["$defs"])
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    components["responses"] = {code: _response(code, why) for code, why in _ERRORS.items()}
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        "cookie": {"type": "apiKey", "in": "cookie", "name": _COOKIE},
    }
    description["security"] = [{"bearer": []}, {"cookie": []}]
    for path in description["paths"].values():
        for method, operation in path.items():
            operation["responses"] |= _references(method)
    return description


def _response(code: str, why: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    response: dict[str, Any] = {
        "description": why,
        "content": {MEDIA_TYPE: {"schema": schema}},
    }
    headers = {
        "401": ("WWW-Authenticate", {"type": "string"}),
        "503": ("Retry-After", {"type": "integer"}),
    }
    if code in headers:
        name, kind = headers[code]
        response["headers"] = {name: {"schema": kind, "required": code == "503"}}
    return response


def _references(method: str) -> dict[str, Any]:
    return {
        code: {"$ref": f"#/components/responses/{code}"}
        for code in _ERRORS
        if method == "post" or code not in _ON_POST
    }
