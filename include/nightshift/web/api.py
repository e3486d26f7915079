"""The REST API, ``/nightshift/api/v1``: what the pages show, and scoring on demand.

An application of its own, so that its errors and its OpenAPI are its own. Every answer is read
within :data:`PATIENCE`. Airflow loads this module in each of its processes, so what is heavy is
imported where it is used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from pydantic import ValidationError
from pydantic_core import from_json

from nightshift import wording
from nightshift.errors import ConfigError
from nightshift.family import family_folders
from nightshift.web import paging, problems, schemas
from nightshift.web.host import Host, HostDep, User, UserDep, user_of
from nightshift.web.problems import Refusal

if TYPE_CHECKING:
    from nightshift.data import Database
    from nightshift.family import ModelFamily
    from nightshift.reports import Line, Status

PATIENCE = timedelta(seconds=10)
"""How long one statement may take."""

MOST_BYTES = 10_000_000
"""Of posted rows: a thousand for each of them."""

Scope = MutableMapping[str, Any]
Application = Callable[[Scope, Any, Any], Awaitable[None]]

router = APIRouter()


def create(host: Host) -> FastAPI:
    """The API for a host, to be mounted at ``/api/v1``."""
    app = FastAPI(
        title="Nightshift",
        version="1",
        description="What the pages show, for programs, and scoring on demand",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(user_of), Depends(_unkept), Depends(_refuse_repeated)],
    )
    app.state.host = host
    app.include_router(router)
    app.add_middleware(_EncodedPath)
    problems.install(app)
    return app


class _EncodedPath:
    """Routes by the path as it was sent, so that a slash in a name is no slash of ours."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope.get("raw_path"):
            scope["path"] = scope["raw_path"].decode("ascii")
        await self._app(scope, receive, send)


def _unkept(response: Response) -> None:
    """What a user may see is kept by nobody on the way."""
    response.headers["Cache-Control"] = "no-store"


def _refuse_repeated(request: Request) -> None:
    """A parameter that is given twice is refused: one of the two would not be answered."""
    counts = Counter(name for name, _ in request.query_params.multi_items())
    if twice := sorted(name for name, count in counts.items() if count > 1):
        faults = [problems.about(("query", name), "is given more than once") for name in twice]
        sentence = f"give each parameter once: {wording.listed(twice)}"
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, sentence, faults)


@dataclass(frozen=True)
class Reader:
    """Who reads, what they may see, and where it is."""

    host: Host
    user: User
    database: Database
    families: frozenset[str]

    def must_see(self, family: str) -> str:
        """A family that is there for this user; whether another one exists is not told."""
        if family not in self.families:
            hint = wording.nearest(family, self.families)
            raise Refusal(HTTPStatus.NOT_FOUND, f"there is no family {family!r}{hint}")
        return family

    def among(self, family: str | None) -> list[str]:
        """One family, or all that the user may see."""
        return sorted(self.families) if family is None else [self.must_see(family)]

    def config(self, family: str) -> ModelFamily | None:
        """What the family's folder says; None where it is broken or gone."""
        try:
            return self.host.site().family(family)
        except ConfigError:
            return None

    def rows(self, query: str, /, **parameters: Any) -> list[dict[str, Any]]:
        """What a query finds, as dictionaries."""
        with self.database.reading(PATIENCE) as tx:
            return [dict(row._mapping) for row in tx.rows(query, **parameters)]

    def status(self) -> Status:
        """The fleet as far as the user may see it."""
        from nightshift import reports

        with self.database.reading(PATIENCE) as tx:
            report = reports.status_in(tx)
        return reports.Status(
            tuple(line for line in report.sentences if line.partition(":")[0] in self.families),
            tuple(night for night in report.nights if night.family in self.families),
            tuple(line for line in report.lines if line.family in self.families),
        )


def reader(host: HostDep, user: UserDep) -> Reader:
    """The database, opened for reading, and the families that the host lets the user see."""
    from nightshift import registry
    from nightshift.data import connect

    site = host.site()
    database = connect(site.database_url)
    with database.reading(PATIENCE) as tx:
        families = set(registry.families(tx))
    families.update(folder.name for folder in family_folders(site.models))
    return Reader(host, user, database, host.allowed(user, families, "read"))


ReaderDep = Annotated[Reader, Depends(reader)]


@router.get("/openapi.json", include_in_schema=False)
def description(request: Request) -> dict[str, Any]:
    """The API's description, with the address it was asked at."""
    return {
        **problems.describe(request.app, [schemas.Rows]),
        "servers": [{"url": request.scope["root_path"]}],
    }


@router.get("/fleet", response_model=schemas.Page[schemas.FleetLine], tags=["fleet"])
def fleet(
    request: Request, reader: ReaderDep, query: Annotated[schemas.FleetFilter, Query()]
) -> Any:
    """Every family that has a model, by name: its models by state, and its last night."""
    [last] = paging.after(query, paging.BY_FAMILY) or ("",)
    lines = [line for line in _families(reader.status()) if line["family"] > last]
    return paging.page(request, query, lines, lambda line: (line["family"],))


@router.get("/fleet/{family}", response_model=schemas.FleetDetail, tags=["fleet"])
def family(reader: ReaderDep, family: schemas.FamilyPath) -> Any:
    """A family, and the columns that a row to score is made of."""
    reader.must_see(family)
    lines = {line["family"]: line for line in _families(reader.status())}
    config = reader.host.site().family(family)
    return {
        "models": 0,
        "health": {},
        "last_night": None,
        "sentence": f"{family}: nothing was scored",
        **lines.get(family, {"family": family}),
        "owner": config.owner,
        "description": config.description,
        "task": config.task,
        "columns": _columns(config),
    }


def _columns(config: ModelFamily) -> dict[str, Any]:
    return {
        "text": ["entity_id", *config.keys, *config.features.categorical],
        "numbers": config.features.numeric,
        "names_the_model": config.models.by if config.models else None,
    }


def _families(report: Status) -> list[dict[str, Any]]:
    nights = {night.family: night for night in report.nights}
    sentences = {sentence.partition(":")[0]: sentence for sentence in report.sentences}
    return [
        {
            "family": name,
            "models": sum(line.family == name for line in report.lines),
            "health": _counted(line.health for line in report.lines if line.family == name),
            "last_night": nights.get(name),
            "sentence": sentence,
        }
        for name, sentence in sorted(sentences.items())
    ]


def _counted(names: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts


@router.get("/models", response_model=schemas.Page[schemas.Model], tags=["models"])
def models(
    request: Request, reader: ReaderDep, query: Annotated[schemas.ModelFilter, Query()]
) -> Any:
    """Every active model, those that need somebody first."""
    from nightshift import reports

    families = reader.among(query.family)
    last = paging.after(query, paging.BY_URGENCY)
    lines = [
        line
        for line in reader.status().lines
        if line.family in families
        and query.group in (None, line.group)
        and query.health in (None, line.health)
        and (last is None or reports.urgency(line) > last)
    ]
    return paging.page(request, query, lines, reports.urgency)


@router.get("/models/{family}/{model}", response_model=schemas.ModelDetail, tags=["models"])
def model(reader: ReaderDep, family: schemas.FamilyPath, model: schemas.ModelPath) -> Any:
    """One active model, and its champions."""
    line = _line(reader, family, model)
    promotions = reader.rows("api.promotions", family=family, model=model)
    columns = schemas.Model.model_validate(line).model_dump()
    return {**columns, "promotions": promotions}


def _line(reader: Reader, family: str, model: str) -> Line:
    reader.must_see(family)
    lines = {line.model: line for line in reader.status().lines if line.family == family}
    if model not in lines:
        hint = wording.nearest(model, lines)
        raise Refusal(HTTPStatus.NOT_FOUND, f"{family} has no active model {model!r}{hint}")
    return lines[model]


@router.get(
    "/measurements", response_model=schemas.Page[schemas.Measurement], tags=["measurements"]
)
def measurements(
    request: Request, reader: ReaderDep, query: Annotated[schemas.MeasurementFilter, Query()]
) -> Any:
    """Measurements, those recorded last first."""
    return _recorded(request, reader, query, "measurement")


@router.get("/decisions", response_model=schemas.Page[schemas.Decision], tags=["decisions"])
def decisions(
    request: Request, reader: ReaderDep, query: Annotated[schemas.DecisionFilter, Query()]
) -> Any:
    """Decisions, the last first."""
    return _recorded(request, reader, query, "decision")


def _recorded(request: Request, reader: Reader, query: schemas.Recorded, kind: str) -> Any:
    """A page of what is numbered as it is recorded."""
    key = f"{kind}_id"
    [last] = paging.after(query, paging.BY_ID) or (None,)
    rows = reader.rows(
        f"api.{kind}s",
        families=reader.among(query.family),
        after=last,
        count=query.limit + 1,
        **query.model_dump(exclude={"family", "limit", "cursor"}),
    )
    return paging.page(request, query, rows, lambda row: (row[key],))


@router.get("/decisions/{decision_id}", response_model=schemas.DecisionDetail, tags=["decisions"])
def decision(reader: ReaderDep, decision_id: schemas.DecisionPath) -> Any:
    """One decision, what it was concluded from, and its hash."""
    families = sorted(reader.families)
    rows = reader.rows("api.decision", decision_id=decision_id, families=families)
    if not rows:
        raise Refusal(HTTPStatus.NOT_FOUND, f"there is no decision {decision_id}")
    return rows[0]


@router.get("/nights", response_model=schemas.Page[schemas.NightLine], tags=["nights"])
def nights(
    request: Request, reader: ReaderDep, query: Annotated[schemas.NightFilter, Query()]
) -> Any:
    """Nights, the last first: frozen, judged, published or not."""
    as_of, family = paging.after(query, paging.BY_NIGHT) or (None, None)
    rows = reader.rows(
        "api.nights",
        families=reader.among(query.family),
        after_as_of=as_of,
        after_family=family,
        count=query.limit + 1,
        **query.model_dump(exclude={"family", "limit", "cursor"}),
    )
    return paging.page(request, query, rows, lambda row: (row["as_of"], row["family"]))


@router.get("/nights/{family}/{as_of}", response_model=schemas.NightDetail, tags=["nights"])
def night(reader: ReaderDep, family: schemas.FamilyPath, as_of: schemas.MomentPath) -> Any:
    """One night: what was checked, and which version scored which model's rows."""
    from nightshift.web import reading

    rows = reader.rows(
        "api.nights",
        families=[reader.must_see(family)],
        since=as_of,
        until=as_of,
        state=None,
        after_as_of=None,
        after_family=None,
        count=1,
    )
    if not rows:
        raise Refusal(HTTPStatus.NOT_FOUND, f"{family} has no night {wording.moment(as_of)}")
    line = rows[0]
    judged = reader.rows("api.checks", snapshot_id=line["snapshot_id"])
    checks = judged[0]["checks"] if judged else []
    config = reader.config(family)
    return {
        **line,
        "checks": reading.discreet_checks(checks, config),
        "left_out": reading.discreet_left_out(line["left_out"], config),
        "models": reader.rows("api.night_models", batch_id=line["batch_id"]),
    }


@router.get(
    "/predictions/{family}/{model}/{entity_id}",
    response_model=schemas.Prediction,
    tags=["predictions"],
)
def prediction(
    reader: ReaderDep,
    family: schemas.FamilyPath,
    model: schemas.ModelPath,
    entity_id: schemas.EntityPath,
    as_of: Annotated[
        schemas.DayOrMoment | None,
        Query(description="No night after this day (in UTC) or moment; by default the latest"),
    ] = None,
) -> Any:
    """What readers see about an entity: its published prediction in the latest night by as_of.

    The answer says which night that is. A night that was scored again answers with what it shows
    now; published_at says since when.
    """
    named = _named(reader, reader.must_see(family), entity_id)
    rows = reader.rows("api.prediction", family=family, model=model, entity_id=named, until=as_of)
    if not rows:
        by = f" by {wording.moment(as_of)}" if as_of else ""
        raise Refusal(
            HTTPStatus.NOT_FOUND,
            f"no prediction of {entity_id!r} by {family}/{model} was published{by}",
        )
    return rows[0]


def _named(reader: Reader, family: str, entity_id: str) -> str:
    """What an entity is called in predictions.

    Where that is a pseudonym, only who may score rows of the family is told whose it is; others ask
    by pseudonym.
    """
    from nightshift import sources

    config = reader.config(family)
    if config is None:
        return entity_id  # its predictions are there all the same
    if config.pseudonymise is None or not reader.host.allowed(reader.user, [family], "act"):
        return entity_id
    with reader.database.reading(PATIENCE) as tx:
        return sources.names_in(tx, config, reader.host.site().keys).of(entity_id)


async def posted(request: Request, user: UserDep) -> bytes:
    """The body of a request of somebody who is known, no more of it than we take."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "post rows as JSON: Content-Type: application/json"
        )
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise Refusal(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"at most {MOST_BYTES:,} bytes are taken at a time; post fewer rows",
            )
    return bytes(body)


_EXAMPLE = {
    "entity_id": "2026-11-03/B6725/JFK/0905",
    "distance": 1576,
    "carrier": "B6",
    "origin": None,
}


@router.post(
    "/fleet/{family}/score",
    response_model=schemas.Scores,
    tags=["scoring"],
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/Rows"},
                    "example": {"rows": [_EXAMPLE]},
                }
            },
        }
    },
)
def score(
    reader: ReaderDep, family: schemas.FamilyPath, body: Annotated[bytes, Depends(posted)]
) -> Any:
    """Score posted rows by the champions that serve now, as a batch would.

    In a factory the column that names the model says whose champion scores a row, and the fallback
    those of models that have none. Nothing is published. Who asked, for how many rows, and which
    versions answered is recorded; the rows are not.
    """
    from nightshift.steps import night as night_steps

    site, user = reader.host.site(), reader.user
    if not reader.host.allowed(user, [reader.must_see(family)], "act"):
        raise Refusal(
            HTTPStatus.FORBIDDEN,
            f"{user.name} may see {family}, but not score rows: that needs the permission to"
            f" trigger {family}.score",
        )
    now = datetime.now(UTC)
    answers = night_steps.score_rows(site, family, _rows(body), by=user.name, now=now)
    return {
        "family": family,
        "scored_at": now,
        "items": [
            {
                "entity_id": answer.entity_id,
                "model": answer.model,
                "score": answer.score,
                "model_version": answer.scorer.number if answer.scorer else None,
                "label": answer.label,
                "flags": answer.flags,
            }
            for answer in answers
        ],
    }


def _rows(body: bytes) -> list[dict[str, Any]]:
    try:
        read = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {error}") from None
    try:
        return schemas.Rows.model_validate(read).rows
    except ValidationError as error:
        faults = [
            problems.about(("body", *detail["loc"]), detail["msg"]) for detail in error.errors()
        ]
        raise Refusal(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"the body is not a list of 1 to {schemas.MOST_ROWS:,} rows under the key rows",
            faults,
        ) from None
