"""How our errors are answered over HTTP: by pages and by the API alike."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.hosts import Door, served

from nightshift import errors
from nightshift.errors import NightshiftError, RowProblem, RowsRefused
from nightshift.site import Site
from nightshift.web import api, pages, problems

ROOT = "/nightshift"


def kinds(of: type[NightshiftError] = NightshiftError) -> Iterator[type[NightshiftError]]:
    """Every kind of error that we have, the first one included."""
    yield of
    for kind in of.__subclasses__():
        yield from kinds(kind)


KINDS = sorted(set(kinds()), key=lambda kind: kind.__name__)


def raised(kind: type[NightshiftError]) -> NightshiftError:
    """An error of this kind, whose words name what programs are not told."""
    if kind is RowsRefused:
        return RowsRefused("horns", [RowProblem("size", (0,), "is text")])
    return kind("hidden.example.org refused s3://hidden/key")


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any) -> TestClient:
    """The pages and the API of a host whose every question ends in one error."""

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise raised(request.param)

    monkeypatch.setattr("nightshift.data.connect", refuse)
    monkeypatch.setattr(pages.Visit, "transaction", refuse)
    site = Site(tmp_path, tmp_path, tmp_path, "", {})
    app = served(Door(site, {"ada": ("horns",)}, ("ada",)))
    return TestClient(app, headers={"Authorization": "Bearer ada"})


@pytest.mark.parametrize("kind", KINDS)
def test_what_may_pass_by_itself_is_503_and_nothing_else_is(kind: type[NightshiftError]) -> None:
    status = problems.status_of(raised(kind))
    assert (status == HTTPStatus.SERVICE_UNAVAILABLE) == kind.transient


@pytest.mark.parametrize("kind", NightshiftError.__subclasses__())
def test_every_kind_stands_in_the_map(kind: type[NightshiftError]) -> None:
    assert kind in problems.STATUS, f"say in web/problems.py how {kind.__name__} is answered"


@pytest.mark.parametrize(("client", "kind"), [(k, k) for k in KINDS], indirect=["client"])
def test_pages_and_api_answer_an_error_alike(
    client: TestClient, kind: type[NightshiftError]
) -> None:
    page = client.get(f"{ROOT}/families/horns", headers={"Accept": "text/html"})
    answer = client.get(f"{ROOT}/api/v1/fleet")
    assert page.status_code == answer.status_code == problems.status_of(raised(kind))
    assert answer.json()["code"] == kind.code
    assert ("retry-after" in page.headers) == ("retry-after" in answer.headers) == kind.transient
    assert str(raised(kind))[:10] in page.text


@pytest.mark.parametrize(
    ("client", "said", "kept"),
    [
        (errors.DatabaseUnavailable, "the database cannot be reached", "store"),
        (errors.DatabaseError, "the database refused", "store"),
        (errors.StorageUnavailable, "the store of snapshots and artifacts cannot be", "database"),
        (errors.StorageError, "the store of snapshots and artifacts refused", "database"),
    ],
    indirect=["client"],
)
def test_an_answer_names_what_is_out_of_reach_and_not_where_it_is(
    client: TestClient, said: str, kept: str
) -> None:
    detail = client.get(f"{ROOT}/api/v1/fleet").json()["detail"]
    assert said in detail
    assert kept not in detail
    assert "hidden" not in detail


def test_the_api_documents_every_status_that_its_map_may_give() -> None:
    app = api.create(Door(Site(Path(), Path(), Path(), "", {}), {}, ()))
    responses = problems.describe(app, [])["components"]["responses"]
    possible = {str(int(status)) for status in problems.STATUS.values()} | {"503"}
    assert possible <= set(responses)
