"""The application: its routes, who gets in, what it says in headers, and how its errors look."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import HTTPException, RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from starlette.exceptions import HTTPException as AnyHTTPException

from nightshift.errors import NightshiftError
from nightshift.web import problems, templating
from nightshift.web.host import Host, host_of, user_of

Answer = Callable[[Request], Awaitable[Response]]

STATIC = Path(__file__).parent / "static"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_HARMLESS = ("GET", "HEAD", "OPTIONS")


def create(host: Host) -> FastAPI:
    """The pages and the API, for a host that mounts them under ``/nightshift``.

    The host is asked who is there before a path is looked at: without a login every path and every
    method is refused alike, static files and unknown ones among them.
    """
    # They load the database's libraries, and each of Airflow's processes imports this module.
    from nightshift.web import actions, api, pages

    app = FastAPI(title="Nightshift", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.host = host
    app.include_router(pages.router)
    app.include_router(actions.router)
    app.mount("/api/v1", api.create(host))
    app.add_api_route("/static/{name:path}", static, include_in_schema=False)
    app.middleware("http")(for_users)
    app.middleware("http")(with_headers)
    app.exception_handler(AnyHTTPException)(refuse)
    app.exception_handler(RequestValidationError)(refuse_input)
    app.exception_handler(NightshiftError)(refuse_ours)
    return app


async def with_headers(request: Request, answer: Answer) -> Response:
    """No script, style or font from anywhere else, whatever a page holds."""
    response = await answer(request)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


async def for_users(request: Request, answer: Answer) -> Response:
    """Let those in who are logged in, and only what was asked for on our own pages."""
    try:
        await user_of(request)
        _require_own_page(request)
    except HTTPException as refused:
        return await refuse(request, refused)
    return await answer(request)


def _require_own_page(request: Request) -> None:
    """Refuse what another site makes a browser send: the browser says from where it comes.

    Programs send their token in a header, which no other site's page can do.
    """
    by_token = request.headers.get("authorization", "").lower().startswith("bearer ")
    if request.method in _HARMLESS or by_token:
        return
    place, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    own = {f"{request.url.scheme}://{request.url.netloc}", host_of(request).origin()} - {None}
    # Browsers leave the first out where a page came over plain HTTP.
    if place != "same-origin" if place else origin not in own:
        raise HTTPException(
            HTTPStatus.FORBIDDEN,
            f"this was not asked for on a page of ours, but on {origin or place or 'none'};"
            f" accepted: {' and '.join(sorted(map(str, own)))}. Behind a proxy, set Airflow's"
            " [api] base_url to the address that people type",
        )


async def refuse(request: Request, error: Exception) -> Response:
    """A refusal in one sentence: a page for people, JSON for programs."""
    assert isinstance(error, AnyHTTPException)
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    if path.startswith("/api/"):
        return problems.http(request, error)
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"detail": error.detail}, error.status_code, headers=error.headers)
    login = None
    if error.status_code == HTTPStatus.UNAUTHORIZED:
        to = request.url.path if request.method == "GET" else f"{templating.root(request)}/"
        query = f"?{request.url.query}" if request.method == "GET" and request.url.query else ""
        login = host_of(request).login_url(to + query)
    status = HTTPStatus(error.status_code)
    return templating.page(
        request,
        "refused.html",
        status=status,
        headers=error.headers,
        phrase=status.phrase,
        sentence=error.detail,
        login=login,
    )


async def refuse_input(request: Request, error: Exception) -> Response:
    """Which of the things that were sent cannot be taken, and why."""
    assert isinstance(error, RequestValidationError)
    faults = "; ".join(f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg']}" for e in error.errors())
    return await refuse(request, HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, faults))


async def refuse_ours(request: Request, error: Exception) -> Response:
    """Our own errors are sentences already."""
    assert isinstance(error, NightshiftError)
    problems.log(request, error)
    headers = dict(problems.headers_of(error))
    return await refuse(request, HTTPException(problems.status_of(error), str(error), headers))


def static(name: str) -> FileResponse:
    """A script, a style sheet, or a picture of ours."""
    path = (STATIC / name).resolve()
    if not (path.is_relative_to(STATIC.resolve()) and path.is_file()):
        raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no file {name!r}")
    return FileResponse(path, headers={"Cache-Control": "private, max-age=3600"})
