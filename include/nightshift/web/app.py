"""The application: its routes, what it says in headers, and how its errors look."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import HTTPException
from fastapi.responses import FileResponse

from nightshift.web import actions, api, pages
from nightshift.web.host import Host, user_of

STATIC = Path(__file__).parent / "static"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


def create(host: Host) -> FastAPI:
    """The pages and the API, for a host that mounts them under ``/nightshift``.

    Every route, static files among them, asks the host who is there.
    """
    app = FastAPI(
        title="Nightshift",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(user_of)],
    )
    app.state.host = host
    app.include_router(pages.router)
    app.include_router(actions.router)
    app.mount("/api/v1", api.create(host))
    app.add_api_route("/static/{name:path}", static, include_in_schema=False)
    app.middleware("http")(with_headers)
    return app


async def with_headers(
    request: Request, answer: Callable[[Request], Awaitable[Response]]
) -> Response:
    """No script, style or font from anywhere else, whatever a page holds."""
    response = await answer(request)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def static(name: str) -> FileResponse:
    """A script, a style sheet, or a picture of ours."""
    path = (STATIC / name).resolve()
    if not (path.is_relative_to(STATIC.resolve()) and path.is_file()):
        raise HTTPException(404, f"there is no file {name!r}")
    return FileResponse(path, headers={"Cache-Control": "private, max-age=3600"})
