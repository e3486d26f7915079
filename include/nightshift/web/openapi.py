"""The API's own description, of its routes only."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from nightshift.web import problems
from nightshift.web.schemas import Rows

_ERRORS = {
    "400": "The body is not JSON",
    "401": "Nobody is logged in",
    "403": "The user may not do this",
    "404": "It is not there, or the user may not see its family",
    "409": "The family has no champion yet, or its folder cannot be read",
    "413": "The body is too large",
    "415": "The body is not application/json",
    "422": "A parameter or a row is wrong; errors names all of them",
    "500": "An error of ours, or of an installation: the log says more",
    "503": "The database cannot be reached, or takes too long: nothing was changed, try again",
}
_ON_POST = {"400", "413", "415"}
_COOKIE = "_token"
"""Airflow's."""


def describe(app: FastAPI) -> dict[str, Any]:
    """OpenAPI 3.1: every route with the problems it may answer, and the two ways to log in."""
    told = get_openapi(
        title="Nightshift",
        version=app.version,
        description=app.description,
        routes=app.routes,
    )
    _, definitions = models_json_schema(
        [(model, "validation") for model in (problems.Problem, Rows)],
        ref_template="#/components/schemas/{model}",
    )
    components = told["components"]
    components["schemas"].update(definitions["$defs"])
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    components["responses"] = {code: _response(code, why) for code, why in _ERRORS.items()}
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        "cookie": {"type": "apiKey", "in": "cookie", "name": _COOKIE},
    }
    told["security"] = [{"bearer": []}, {"cookie": []}]
    for path in told["paths"].values():
        for method, operation in path.items():
            operation["responses"] |= _references(method)
    return told


def _response(code: str, why: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    response: dict[str, Any] = {
        "description": why,
        "content": {problems.MEDIA_TYPE: {"schema": schema}},
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
