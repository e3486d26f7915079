"""The pages: fleet, family, model, version, night, decision; and each as CSV."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from typing import Annotated, Any, cast
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import HTTPException
from fastapi.responses import HTMLResponse, StreamingResponse
from fastapi.routing import APIRoute
from markupsafe import Markup

from nightshift import reports
from nightshift.data import Transaction
from nightshift.errors import ConfigError, NightshiftError
from nightshift.family import SIGNALS, ModelFamily, words_of
from nightshift.site import Site
from nightshift.web import actions, drawing, problems, reading, templating
from nightshift.web.host import HostDep, UserDep
from nightshift.wording import Gauge

MEASURED = (
    "as_of",
    "metric",
    "basis",
    "version",
    "decisive",
    "state",
    "value",
    "low",
    "high",
    "threshold",
    "reference",
    "predictions",
    "labels",
    "window_start",
    "window_end",
    "method",
)
WATCHED = ("as_of", "signal", "feature", "value", "level", "rows", "version")
SLICED = ("as_of", "slice", "metric", "state", "value", "low", "high", "predictions", "labels")
VERSIONS = (
    "number",
    "trained_at",
    "rows",
    "artifact_hash",
    "decision_id",
    "serves_from",
    "collected_at",
)
EVENTS = ("as_of", "until", "kind", "rule", "sentence", "decision_ids")
FLEET = (
    "family",
    "model",
    "group",
    "health",
    "version",
    "since",
    "shadow",
    "metric",
    "measured",
    "value",
    "low",
    "high",
    "threshold",
    "reference",
    "labels",
    "predictions",
    "measured_as_of",
    "alerts",
    "decision",
    "rule",
    "reason",
    "decided_as_of",
    "waiting",
    "failure",
)
NIGHTS = ("as_of", "rows", "verdict", "published_at", "code", "reason")
CHECKS = ("expectation", "column", "success", "severity", "observed")
BATCH = ("model", "version", "rows", "alerts")
COMPARED = ("slice", "rows", "difference", "low", "high")


class Page(APIRoute):
    """A route whose errors are pages: what is not there, and what does not answer."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def answer_or_apology(request: Request) -> Response:
            try:
                return await answer(request)
            except NightshiftError as error:
                problems.log(request, error)
                status, title = problems.status_of(error), problems.title_of(error)
                return templating.page(
                    request,
                    "error.html",
                    status=status,
                    headers=problems.headers_of(error),
                    title=title,
                    sentence=str(error),
                )
            except HTTPException as error:
                if error.status_code != HTTPStatus.NOT_FOUND:
                    raise
                title = "There is no such page"
                return templating.page(
                    request, "error.html", status=404, title=title, sentence=str(error.detail)
                )

        return answer_or_apology


router = APIRouter(include_in_schema=False, route_class=Page)


class Visit:
    """One request: who asks, and what they may see."""

    def __init__(self, request: Request, host: HostDep, user: UserDep) -> None:
        self.request = request
        self.host = host
        self.user = user
        self.root = templating.root(request)

    @property
    def site(self) -> Site:
        return self.host.site()

    def transaction(self) -> AbstractContextManager[Transaction]:
        """A read-only transaction."""
        return cast("AbstractContextManager[Transaction]", reading.reading(self.site))

    def readable(self, families: Iterable[str]) -> frozenset[str]:
        """Those of the families whose pages the user may see."""
        return self.host.allowed(self.user, families, "read")

    def enter(self, family: str) -> None:
        """Go on only where the user may see the family; else it is as though it did not exist."""
        if family not in self.readable([family]):
            raise HTTPException(404, f"No family is called {family!r}, or you may not see it.")

    def family(self, name: str) -> ModelFamily | None:
        """What the family's folder says; None where it is broken or gone."""
        try:
            return self.site.family(name)
        except ConfigError:
            return None

    def gauge(self, family: str, metric: str | None) -> Gauge:
        """How the family reads a metric aloud; as it is named where the folder is broken."""
        config = self.family(family)
        return config.performance.gauge(metric) if config else Gauge(metric or "")

    def offer(self, family: str) -> actions.Offer:
        """What the user may do to a family."""
        return actions.offer(self.request, self.host, self.user, family)

    @property
    def last_action(self) -> dict[str, str | None] | None:
        """What was just done, where an action has led here."""
        return actions.last_action(self.request)

    def page(self, template: str, **values: Any) -> HTMLResponse:
        """A page; its template knows the request as ``visit``."""
        return templating.page(self.request, template, visit=self, **values)

    def cards(self, fleet: reading.Fleet, member: reading.Member) -> Markup:
        """The models of a family, made once for all who see them."""
        key = (self.root, member.family)
        if key not in fleet.cards:
            fleet.cards[key] = Markup(  # noqa: S704 - a template of ours made it
                templating.render("parts/cards.html", self.root, member=member, sparks=fleet.sparks)
            )
        return fleet.cards[key]

    def runs(self, dag_id: str, as_of: datetime | None = None) -> str:
        """Airflow's page of a DAG, or of its runs about one moment: their ids contain it."""
        url = self.host.run_url(dag_id)
        return (
            url if as_of is None else f"{url}/runs?run_id_pattern={quote(templating.moment(as_of))}"
        )


VisitDep = Annotated[Visit, Depends(Visit)]


# The fleet -----------------------------------------------------------------------------------


@router.get("/", response_class=HTMLResponse)
def fleet(visit: VisitDep) -> Response:
    """Every model on one screen.

    Where it must be read anew, the head of the page is sent before, so that a browser fetches its
    style and scripts in the meantime.
    """
    with visit.transaction() as tx:
        cached = reading.cached_fleet(tx, visit.site)
    if cached is None:
        return StreamingResponse(_streamed_fleet(visit), media_type="text/html")
    return visit.page("fleet.html", look=lambda: _looked(visit, cached))


def _streamed_fleet(visit: Visit) -> Iterator[str]:
    look = cache(lambda: _looked(visit, _fleet(visit)))
    parts = iter(templating.generate("fleet.html", visit.root, visit=visit, look=look))
    head = []
    for part in parts:
        head.append(part)
        if "<main" in part:
            break
    yield "".join(head)
    yield "".join(parts)


def _looked(visit: Visit, fleet: reading.Fleet) -> dict[str, Any]:
    visible = fleet.visible(visit.readable([member.family for member in fleet.members]))
    late = reading.late(visit.site, visible, datetime.now(UTC))
    return {
        "fleet": visible,
        "late": late,
        "verdict": reading.verdict(visible, late),
        "budget": visit.site.settings.retrains_per_night,
    }


@router.get("/fleet.csv")
def fleet_csv(visit: VisitDep) -> Response:
    """The same, a line for each model."""
    return templating.csv_file("fleet", FLEET, map(asdict, _visible_fleet(visit).lines))


def _fleet(visit: Visit) -> reading.Fleet:
    with visit.transaction() as tx:
        return reading.fleet(tx, visit.site)


def _visible_fleet(visit: Visit) -> reading.Fleet:
    fleet = _fleet(visit)
    return fleet.visible(visit.readable([member.family for member in fleet.members]))


@router.get("/families/{family}.csv")
def family_csv(visit: VisitDep, family: str) -> Response:
    """The latest nights of a family."""
    visit.enter(family)
    with visit.transaction() as tx:
        return templating.csv_file(
            f"{family}-nights", NIGHTS, reading.nights(tx, family, visit.family(family))
        )


@router.get("/families/{family}", response_class=HTMLResponse)
def family(visit: VisitDep, family: str) -> Response:
    """One family: its models and its nights."""
    visit.enter(family)
    with visit.transaction() as tx:
        fleet = reading.fleet(tx, visit.site).visible(frozenset({family}))
        nights = reading.nights(tx, family, visit.family(family))
    if not fleet.members and not nights:
        raise HTTPException(404, f"No family is called {family!r}, or you may not see it.")
    late = reading.late(visit.site, fleet, datetime.now(UTC))
    return visit.page(
        "family.html",
        family=family,
        config=visit.family(family),
        fleet=fleet,
        late=late,
        verdict=reading.verdict(fleet, late),
        nights=nights,
    )


# A model: its name may hold slashes, so what follows it is matched first ------------------------


@router.get("/models/{family}/{model:path}/measurements.csv")
def measurements_csv(visit: VisitDep, family: str, model: str) -> Response:
    """Every measurement of a model."""
    with visit.transaction() as tx:
        row = _model(visit, tx, family, model)
        rows = reading.measurements(tx, row["model_id"])
    return templating.csv_file(f"{family}-{model}-measurements", MEASURED, rows)


@router.get("/models/{family}/{model:path}/signals.csv")
def signals_csv(visit: VisitDep, family: str, model: str) -> Response:
    """What was watched of a model in its latest nights."""
    with visit.transaction() as tx:
        row = _model(visit, tx, family, model)
        rows = reading.signals(tx, family, row["model_id"])
    return templating.csv_file(f"{family}-{model}-signals", WATCHED, rows)


@router.get("/models/{family}/{model:path}/slices.csv")
def slices_csv(visit: VisitDep, family: str, model: str) -> Response:
    """The latest measurement of a model by slice."""
    with visit.transaction() as tx:
        rows = reading.slices(tx, _model(visit, tx, family, model)["model_id"])
    return templating.csv_file(f"{family}-{model}-slices", SLICED, rows)


@router.get("/models/{family}/{model:path}/scores.csv")
def scores_csv(visit: VisitDep, family: str, model: str) -> Response:
    """The distribution of a model's scores, then and now."""
    with visit.transaction() as tx:
        scores = reading.scores(tx, _model(visit, tx, family, model))
    columns = ("from", "to", "share_when_promoted", "share_last_night")
    bins = scores.bins if scores else ()
    return templating.csv_file(
        f"{family}-{model}-scores", columns, (dict(zip(columns, b, strict=True)) for b in bins)
    )


@router.get("/models/{family}/{model:path}/versions.csv")
def versions_csv(visit: VisitDep, family: str, model: str) -> Response:
    """The versions of a model."""
    with visit.transaction() as tx:
        rows = reading.versions(tx, _model(visit, tx, family, model)["model_id"])
    return templating.csv_file(f"{family}-{model}-versions", VERSIONS, rows)


@router.get("/models/{family}/{model:path}/decisions.csv")
def decisions_csv(visit: VisitDep, family: str, model: str) -> Response:
    """What happened to a model."""
    with visit.transaction() as tx:
        events = reading.events(tx, _model(visit, tx, family, model)["model_id"])
    return templating.csv_file(f"{family}-{model}-decisions", EVENTS, map(asdict, events))


@router.get("/models/{family}/{model:path}/versions/{number:int}", response_class=HTMLResponse)
def version(
    visit: VisitDep, family: str, model: str, number: int, against: int | None = None
) -> Response:
    """The manifest of a version; beside another one, where they differ."""
    with visit.transaction() as tx:
        model_row = _model(visit, tx, family, model)
        version_row = _version(visit, tx, model_row, number)
        opposite = _version(visit, tx, model_row, against) if against is not None else None
        versions = reading.versions(tx, model_row["model_id"])
    return visit.page(
        "version.html",
        model=model_row,
        version=version_row,
        opposite=opposite,
        versions=versions,
        differences=drawing.difference(opposite, version_row) if opposite else [],
    )


@router.get("/models/{family}/{model:path}/versions/{number:int}.json")
def manifest(visit: VisitDep, family: str, model: str, number: int) -> Response:
    """The manifest of a version as it was signed, without values of sensitive columns."""
    with visit.transaction() as tx:
        row = _version(visit, tx, _model(visit, tx, family, model), number)
    return templating.download(
        drawing.as_json(row["manifest"]), "application/json", f"{family}-{model}-{number}.json"
    )


@router.get("/models/{family}/{model:path}", response_class=HTMLResponse)
def model(visit: VisitDep, family: str, model: str) -> Response:
    """One model: its metric over time, its inputs, its versions, what was decided."""
    with visit.transaction() as tx:
        model_row = _model(visit, tx, family, model)
        model_page = reading.model(tx, model_row, words_of(visit.site.models))
        scores = reading.scores(tx, model_row)
        models = visit.host.site().models
        outdated = reports.outdated_champion(tx, models, model_row["model_id"])
    gauge = visit.gauge(family, model_page.metric)
    return visit.page(
        "model.html",
        shown=model_page,
        gauge=gauge,
        outdated=outdated,
        model=model_row,
        scores=scores,
        heat=drawing.heat(model_page.signals, SIGNALS),
        whiskers=drawing.scale(
            drawing.shown(row[name], gauge)
            for row in model_page.slices
            for name in ("low", "value", "high")
        ),
        chart=drawing.chart(model_page.decisive, model_page.estimated, model_page.changes, gauge),
        config=visit.family(family),
    )


def _model(visit: Visit, tx: Transaction, family: str, model: str) -> reading.Row:
    visit.enter(family)
    row = reading.find_model(tx, family, model)
    if row is None:
        raise HTTPException(404, f"The family {family} has no model {model!r}.")
    return row


def _version(visit: Visit, tx: Transaction, model: reading.Row, number: int) -> reading.Row:
    sensitive = _sensitive(visit, model["family"])
    row = reading.version(tx, model["model_id"], number, sensitive)
    if row is None:
        raise HTTPException(404, f"{model['family']}/{model['model']} has no version {number}.")
    return row


def _sensitive(visit: Visit, family: str) -> list[str]:
    """The columns whose values the family protects now; a version says which it did then."""
    try:
        return visit.host.site().family(family).features.sensitive
    except ConfigError:
        return []


# A night -------------------------------------------------------------------------------------


@router.get("/nights/{family}/{as_of}/checks.csv")
def checks_csv(visit: VisitDep, family: str, as_of: str) -> Response:
    """The verdict on a night's snapshot, check by check."""
    return templating.csv_file(
        f"{family}-{as_of}-checks", CHECKS, _night(visit, family, as_of).checks
    )


@router.get("/nights/{family}/{as_of}/models.csv")
def batch_csv(visit: VisitDep, family: str, as_of: str) -> Response:
    """Whose rows a night's published batch holds."""
    return templating.csv_file(
        f"{family}-{as_of}-models", BATCH, _night(visit, family, as_of).models
    )


@router.get("/nights/{family}/{as_of}", response_class=HTMLResponse)
def night(visit: VisitDep, family: str, as_of: str) -> Response:
    """One as_of of a family: snapshot, validation, batch, what followed."""
    return visit.page("night.html", shown=_night(visit, family, as_of))


def _night(visit: Visit, family: str, as_of: str) -> reading.NightPage:
    visit.enter(family)
    try:
        at = datetime.fromisoformat(as_of)
    except ValueError:
        raise HTTPException(
            404, f"{as_of!r} is no night; write it as 2026-11-03T02:00:00Z."
        ) from None
    with visit.transaction() as tx:
        moment = at if at.tzinfo else at.replace(tzinfo=UTC)
        night_page = reading.night(tx, family, moment, visit.family(family))
    if night_page is None:
        raise HTTPException(404, f"Nothing is known of the night {as_of} of {family}.")
    return night_page


# A decision ----------------------------------------------------------------------------------


@router.get("/decisions/{decision_id:int}.csv")
def decision_csv(visit: VisitDep, decision_id: int) -> Response:
    """The comparison behind a decision: all rows, then slice by slice."""
    compared = _decision(visit, decision_id).comparison
    rows: list[Mapping[str, Any]] = []
    if compared:
        whole = {"slice": "", "rows": compared["row_count"]}
        rows = [{**compared, **whole, "high": None}, *compared["slices"]]
    return templating.csv_file(f"decision-{decision_id}", COMPARED, rows)


@router.get("/decisions/{decision_id:int}", response_class=HTMLResponse)
def decision(visit: VisitDep, decision_id: int) -> Response:
    """One decision: the evidence, the rule, the comparison, who approved."""
    decision_page = _decision(visit, decision_id)
    compared = decision_page.comparison or {"slices": [], "difference": None, "low": None}
    bounds = [value for row in compared["slices"] for value in (row["difference"], row.get("high"))]
    return visit.page(
        "decision.html",
        shown=decision_page,
        compared=decision_page.comparison,
        gauge=visit.gauge(decision_page.decision["family"], compared.get("metric")),
        whiskers=drawing.scale([0.0, compared["difference"], compared["low"], *bounds]),
    )


def _decision(visit: Visit, decision_id: int) -> reading.DecisionPage:
    with visit.transaction() as tx:
        page = reading.decision(tx, decision_id, words_of(visit.site.models))
    if page is None or page.decision["family"] not in visit.readable([page.decision["family"]]):
        raise HTTPException(404, f"There is no decision {decision_id}, or you may not see it.")
    return page


# How errors and files are answered --------------------------------------------------------------
