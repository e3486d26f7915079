"""What the pages show, read from the database: one transaction, one moment, for each page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import groupby
from typing import Any

from markupsafe import Markup

from nightshift import registry, reports, wording
from nightshift.data import Transaction, connect
from nightshift.family import ModelFamily, load_families, words_of
from nightshift.records import WITHHELD_VALUES, Check, Health
from nightshift.reports import HEALTHS, LastNight, Line
from nightshift.site import Site
from nightshift.web import drawing
from nightshift.wording import Gauge

PATIENCE = timedelta(seconds=10)
"""How long one statement of a page may take."""

MONTH = timedelta(days=30)
SPARK_NIGHTS = 30
WATCHED_NIGHTS = 42
LISTED_NIGHTS = 60
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
CONCLUDED = 200
"""How many decisions of one day are listed."""

VERDICTS = frozenset({"snapshot_warned", "snapshot_rejected"})
"""Events whose details repeat what checks met."""

CHECKED = "the checks of the night say what failed"

CALM: frozenset[Health] = frozenset({"healthy", "immature", "undefined", "untrained"})
"""The states that ask nothing of anybody."""

Row = dict[str, Any]


def reading(site: Site) -> Any:
    """A read-only transaction on the site's database."""
    return connect(site.database_url, read_only=True).reading(PATIENCE)


# The fleet -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """What a family's work came to in the last 30 nights; ``seconds`` are those of scoring."""

    family: str
    nights: int
    rows: int
    seconds: float
    versions: int
    learnt: int


@dataclass(frozen=True)
class Group:
    """Models that share a retrain rule, the worst first."""

    name: str | None
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Member:
    """A family in the fleet: its last night, its groups, its cost."""

    family: str
    night: LastNight | None
    groups: tuple[Group, ...]
    cost: Cost

    @property
    def gauge(self) -> Gauge | None:
        """How its figures are read aloud; None where nothing was measured yet."""
        return next((line.gauge for line in self.lines if line.metric), None)

    @property
    def lines(self) -> Iterator[Line]:
        for group in self.groups:
            yield from group.lines


@dataclass(frozen=True)
class Fleet:
    """Every family, with the sparkline of every model as :func:`drawing.spark` writes it.

    ``cards`` keeps what was made of it: the cards of a family, by root and family.
    """

    members: tuple[Member, ...]
    sparks: Mapping[tuple[str, str], str]
    retrains: int
    cards: dict[tuple[str, str], Markup] = field(default_factory=dict, compare=False)

    def visible(self, families: frozenset[str]) -> Fleet:
        """The part of it that somebody may see."""
        members = tuple(member for member in self.members if member.family in families)
        return replace(self, members=members)

    @cached_property
    def lines(self) -> list[Line]:
        return [line for member in self.members for line in member.lines]

    @cached_property
    def urgent(self) -> list[Line]:
        """The models that need somebody, the worst first; who was just replaced does not."""
        needy = [
            line
            for line in self.lines
            if line.health not in CALM
            and not (line.health == "breached" and line.decision == "promote")
        ]
        return sorted(needy, key=reports.urgency)

    @cached_property
    def counts(self) -> dict[Health, int]:
        """How many models are in each state, those that need somebody first."""
        counted = Counter(line.health for line in self.lines)
        return {health: counted[health] for health in HEALTHS if counted[health]}


_fleets: dict[str, tuple[Any, Fleet]] = {}


def cached_fleet(tx: Transaction, site: Site) -> Fleet | None:
    """Every model, as it was read last; None where something has happened since."""
    cached = _fleets.get(site.database_url)
    return cached[1] if cached and cached[0] == tuple(tx.one("web.newest")) else None


def fleet(tx: Transaction, site: Site) -> Fleet:
    """Every model; what has not changed since the last call is not read again."""
    latest = cached_fleet(tx, site)
    if latest is None:
        latest = _fleet(tx, words_of(site.models))
        _fleets[site.database_url] = (tuple(tx.one("web.newest")), latest)
    return latest


def _fleet(tx: Transaction, words: Mapping[str, str]) -> Fleet:
    status = reports.status_in(tx, words=words)
    nights = {night.family: night for night in status.nights}
    latest = max((night.as_of for night in status.nights), default=LONG_AGO)
    costs = {row.family: Cost(**row._mapping) for row in tx.rows("web.cost", since=latest - MONTH)}
    ordered = sorted(status.lines, key=lambda line: (line.family, line.group or ""))
    members = []
    for family, lines in groupby(ordered, key=lambda line: line.family):
        groups = tuple(
            Group(name, tuple(own)) for name, own in groupby(lines, key=lambda line: line.group)
        )
        members.append(Member(family, nights.get(family), groups, costs[family]))
    by_name = {(line.family, line.model): line for line in status.lines}
    sparks = {
        name: drawing.spark(row.points, by_name[name].threshold, by_name[name].gauge)
        for row in tx.rows("web.sparks", family=None, nights=SPARK_NIGHTS)
        if (name := (row.family, row.model)) in by_name
    }
    retrains = registry.retrains_called_for(tx, since=latest - timedelta(days=1))
    return Fleet(tuple(members), sparks, retrains)


def verdict(fleet: Fleet, late: Mapping[str, datetime]) -> str:
    """Last night in one sentence; ``late`` are nights that are due and not published."""
    if not fleet.members:
        return "Nothing has been scored yet: no family has a model."
    state = _states(fleet)
    published = [member.night for member in fleet.members if member.night]
    rows = sum(night.rows for night in published)
    count = len(fleet.members)
    missing = sorted(late) + [m.family for m in fleet.members if not m.night]
    if not missing:
        subject = "Every family" if count > 1 else fleet.members[0].family
        return f"{subject} published the last night, {rows:,} rows; {state}."
    names = wording.listed(missing, most=5)
    if count == 1:
        return f"{names} did not publish the last night; {state}."
    return (
        f"{len(missing)} of {wording.count(count, 'family', 'families')} did not publish the last"
        f" night: {names}; {state}."
    )


def _states(fleet: Fleet) -> str:
    words = drawing.STATES
    states = [f"{count:,} {words.get(health, health)}" for health, count in fleet.counts.items()]
    models = len(fleet.lines)
    if len(states) == 1 and models > 1:
        return f"all {models:,} models are {states[0].partition(' ')[2]}"
    return f"{wording.count(models, 'model')}: {wording.listed(states)}"


def late(site: Site, fleet: Fleet, now: datetime) -> dict[str, datetime]:
    """The families whose latest night is due, ``schedule.deadline`` included, and unpublished."""
    overdue = {}
    last = {m.family: m.night.as_of for m in fleet.members if m.night}
    for family in load_families(site.models)[0]:
        due = family.previous_tick(now - family.schedule.deadline)
        if family.family in last and last[family.family] < due:
            overdue[family.family] = due
    return overdue


def nights(tx: Transaction, family: str, config: ModelFamily | None) -> list[Row]:
    """The latest nights of a family, the latest first; ``config`` is what its folder says."""
    rows = _rows(tx, "web.nights", family=family, nights=LISTED_NIGHTS)
    return [
        row | {"reason": CHECKED} if _reveals_values(row["code"], config) else row for row in rows
    ]


# A model -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scores:
    """How the scores were distributed when the champion was promoted, and in the last night.

    ``bins`` are (from, to, share then, share now); None is without end.
    """

    as_of: datetime
    rows: int
    bins: tuple[tuple[float | None, float | None, float, float], ...]


@dataclass(frozen=True)
class ModelPage:
    """Everything about one model."""

    model: Row
    line: Line | None
    measurements: Sequence[Row]
    signals: Sequence[Row]
    slices: Sequence[Row]
    versions: Sequence[Row]
    changes: Sequence[Row]
    events: Sequence[reports.Event]

    @property
    def decisive(self) -> list[Row]:
        """The metric that decisions look at, of the version that served, oldest first."""
        decisive = (m for m in self.measurements if m["decisive"] and m["basis"] == "realized")
        return [next(same) for _, same in groupby(decisive, key=lambda m: m["as_of"])]

    @property
    def metric(self) -> str | None:
        """The metric that decisions look at; None where nothing was measured yet."""
        return next((row["metric"] for row in (*self.decisive, *self.estimated)), None)

    @property
    def estimated(self) -> list[Row]:
        """The same, estimated before any label."""
        return [m for m in self.measurements if m["basis"] == "estimated"]


def find_model(tx: Transaction, family: str, model: str) -> Row | None:
    """A model by its name."""
    row = tx.maybe("web.model", family=family, model=model)
    return dict(row._mapping) if row else None


def model(tx: Transaction, model_row: Row, words: Mapping[str, str]) -> ModelPage:
    """Everything about a model that was found; ``words`` are how families say their figures."""
    model_id, family = model_row["model_id"], model_row["family"]
    active = model_row["state"] == "active"
    lines = reports.status_in(tx, family, words=words).lines if active else ()
    return ModelPage(
        model=model_row,
        line=next((line for line in lines if line.model == model_row["model"]), None),
        measurements=measurements(tx, model_id),
        signals=signals(tx, family, model_id),
        slices=_rows(tx, "web.slices", model_id=model_id),
        versions=versions(tx, model_id),
        changes=_rows(tx, "web.changes", model_id=model_id),
        events=events(tx, model_id),
    )


def measurements(tx: Transaction, model_id: int) -> Sequence[Row]:
    """Every measurement of a model over all rows, oldest first."""
    return _rows(tx, "web.measurements", model_id=model_id, since=LONG_AGO)


def signals(tx: Transaction, family: str, model_id: int) -> Sequence[Row]:
    """What was watched of a model in its latest nights, oldest first."""
    return _rows(tx, "web.signals", family=family, model_id=model_id, nights=WATCHED_NIGHTS)


def slices(tx: Transaction, model_id: int) -> Sequence[Row]:
    """The latest measurement of a model by slice, the lowest first."""
    return _rows(tx, "web.slices", model_id=model_id)


def versions(tx: Transaction, model_id: int) -> Sequence[Row]:
    """The versions of a model, the latest first."""
    return _rows(tx, "web.versions", model_id=model_id)


def events(tx: Transaction, model_id: int) -> tuple[reports.Event, ...]:
    """What happened to a model, oldest first."""
    return reports.events_in(tx, model_id)


def version(
    tx: Transaction, model_id: int, number: int, sensitive: Collection[str] = ()
) -> Row | None:
    """One version of a model with its manifest, as far as it may be shown.

    Parameters
    ----------
    sensitive
        Columns whose values are not shown, besides those that the manifest says.
    """
    row = tx.maybe("web.version", model_id=model_id, number=number)
    if row is None:
        return None
    hidden = {*sensitive, *row.manifest.get("features", {}).get("sensitive", ())}
    return {**row._mapping, "manifest": _redacted(row.manifest, hidden) if hidden else row.manifest}


def _redacted(manifest: Row, hidden: Collection[str]) -> Row:
    """A manifest without what training saw of some columns; scoring needs it, nobody else does."""
    profile = dict(manifest.get("profile", {}))
    for part in profile.keys() & {"categories", "ranges", "distributions"}:
        profile[part] = {
            name: WITHHELD_VALUES if name in hidden else values
            for name, values in profile[part].items()
        }
    return {**manifest, "profile": profile}


def scores(tx: Transaction, model_row: Row) -> Scores | None:
    """The scores of the last night beside those of the champion's promotion."""
    reference = (model_row["reference"] or {}).get("scores")
    batch = tx.maybe("web.latest_batch", model_id=model_row["model_id"])
    if not reference or not reference["edges"] or batch is None:
        return None
    edges = reference["edges"]
    counted = {
        row.place: row.rows
        for row in tx.rows(
            "web.scores", batch_id=batch.batch_id, model_id=model_row["model_id"], edges=edges
        )
    }
    then, now = sum(reference["counts"]) or 1, sum(counted.values()) or 1
    ends = [None, *edges, None]
    return Scores(
        batch.as_of,
        sum(counted.values()),
        tuple(
            (ends[i], ends[i + 1], count / then, counted.get(i, 0) / now)
            for i, count in enumerate(reference["counts"])
        ),
    )


# A night -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NightPage:
    """One as_of of a family."""

    family: str
    as_of: datetime
    snapshots: Sequence[Row]
    batches: Sequence[Row]
    models: Sequence[Row]
    trail: Sequence[Row]
    concluded: Sequence[Row]
    checks: Sequence[Row]
    before: datetime | None
    after: datetime | None

    @property
    def published(self) -> Row | None:
        """The batch that readers see."""
        return next((batch for batch in self.batches if batch["published_at"]), None)


def night(
    tx: Transaction, family: str, as_of: datetime, config: ModelFamily | None
) -> NightPage | None:
    """A night by its moment; None where nothing is known of it.

    Parameters
    ----------
    config
        What the family's folder says, and so which values may be shown; None where it is broken.
    """
    at = {"family": family, "as_of": as_of}
    around = tx.one("web.neighbour_nights", **at)
    until = around.after or as_of + timedelta(days=1)
    snapshots = _rows(tx, "web.night", **at)
    for snapshot in snapshots:
        snapshot["left_out"] = discreet_left_out(snapshot["left_out"], config)
    verdicts = [snapshot.pop("checks") for snapshot in snapshots]
    # The verdict that counts is the latest on the latest snapshot.
    checks: list[Row] = next((verdict for verdict in verdicts if verdict is not None), [])
    page = NightPage(
        family,
        as_of,
        snapshots=snapshots,
        batches=_rows(tx, "web.batches", **at),
        models=_rows(tx, "web.batch_models", **at),
        trail=[
            event | {"detail": {"reason": CHECKED}}
            if _reveals_values(event["code"], config)
            else event
            for event in _rows(tx, "web.trail", **at)
        ],
        concluded=_rows(
            tx, "web.decisions_between", family=family, since=as_of, until=until, count=CONCLUDED
        ),
        checks=discreet_checks(checks, config),
        before=around.before,
        after=around.after,
    )
    return page if page.snapshots or page.trail else None


def _reveals_values(code: str | None, config: ModelFamily | None) -> bool:
    """Whether an event repeats values that checks met, and that may be those of such a column."""
    return code in VERDICTS and (config is None or bool(config.features.sensitive))


def discreet_checks(checks: Iterable[Row], family: ModelFamily | None) -> list[Row]:
    """Checks as they may be shown: without values that they met of columns that are sensitive now.

    Of a family whose folder is broken or gone nothing is known to be harmless: no value is shown.
    """
    sensitive = family.features.sensitive if family else None
    return [asdict(Check(**check).discreet(sensitive)) for check in checks]


def discreet_left_out(
    left_out: Mapping[str, Mapping[str, Any]], family: ModelFamily | None
) -> list[dict[str, Any]]:
    """What a snapshot keeps of rows that were left out, as it may be shown: by reason.

    Each has ``reason``, ``rows`` and ``examples``; these are none where they tell values of a
    column that is sensitive by now, or where that cannot be known, as of a family without a folder.
    """

    def harmless(columns: Sequence[str] | None) -> bool:
        if family is None or (columns is None and family.features.sensitive):
            return False
        return not set(columns or ()).intersection(family.features.sensitive)

    return [
        {
            "reason": reason,
            "rows": kept["rows"],
            "examples": kept["examples"] if harmless(kept.get("columns")) else [],
        }
        for reason, kept in left_out.items()
    ]


# A decision ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class DecisionPage:
    """One decision: what it was made from, and what it led to."""

    decision: Row
    why: reports.Why
    comparison: Row | None


def decision(tx: Transaction, decision_id: int, words: Mapping[str, str]) -> DecisionPage | None:
    """A decision by its number; ``words`` are how families say their figures."""
    row = tx.maybe("web.decision", decision_id=decision_id)
    if row is None:
        return None
    compared = tx.maybe("web.comparison", decision_id=decision_id)
    return DecisionPage(
        dict(row._mapping),
        reports.why_in(tx, row, row, words.get(row.family)),
        dict(compared._mapping) if compared else None,
    )


def _rows(tx: Transaction, name: str, **parameters: Any) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in tx.rows(name, **parameters)]
