"""Pages by key: a cursor names the last item that was given, so no page shifts under a reader."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

from fastapi import Request
from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import to_json

from nightshift.web.problems import Fault, Refusal
from nightshift.web.schemas import LARGEST_ID, TEXT, Filter, Moment

K = TypeVar("K")
Name = Annotated[str, Field(pattern=TEXT)]
BY_ID: TypeAdapter[tuple[int]] = TypeAdapter(tuple[Annotated[int, Field(ge=0, le=LARGEST_ID)]])
BY_FAMILY: TypeAdapter[tuple[str]] = TypeAdapter(tuple[Name])
BY_NIGHT: TypeAdapter[tuple[datetime, str]] = TypeAdapter(tuple[Moment, Name])
BY_URGENCY: TypeAdapter[tuple[int, str, str]] = TypeAdapter(tuple[int, str, str])


def after(query: Filter, key: TypeAdapter[K]) -> K | None:
    """The key of the last item of the page before; None on the first page."""
    if query.cursor is None:
        return None
    try:
        return key.validate_json(base64.urlsafe_b64decode(query.cursor))
    except (ValidationError, binascii.Error):
        raise Refusal(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "cursor: this is none of ours; take the path from next, or leave it out to begin anew",
            [Fault(detail="is none of ours", parameter="cursor")],
        ) from None


def page(
    request: Request, query: Filter, rows: Sequence[Any], key: Callable[[Any], tuple[Any, ...]]
) -> dict[str, Any]:
    """A page of what was found, which is one item more than asked for where there is a next."""
    items = rows[: query.limit]
    following = _next(request, query, key(items[-1])) if len(rows) > query.limit else None
    return {"items": items, "next": following}


def _next(request: Request, query: Filter, key: tuple[Any, ...]) -> str:
    cursor = base64.urlsafe_b64encode(to_json(key)).decode()
    parameters = query.model_dump(mode="json", exclude_unset=True, exclude={"cursor"})
    path = request.scope["root_path"] + request.scope["route"].path
    return f"{path}?{urlencode({**parameters, 'cursor': cursor})}"
