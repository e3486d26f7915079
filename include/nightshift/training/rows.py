"""Which nights and rows a challenger learns from, and which are held out to judge it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.data import Database, Store, query_text
from nightshift.family import ModelFamily, Training
from nightshift.policy import after_break
from nightshift.records import Model, Version
from nightshift.tables import shape_problems

if TYPE_CHECKING:
    pass
from nightshift.training.exclusions import excluded_entities
from nightshift.training.shortage import Shortage
from nightshift.wording import moment

INSTANT = timedelta(microseconds=1)

YEAR = 365.2425
"""Days; the matching week of an earlier year lies a whole number of weeks back."""


@dataclass(frozen=True)
class Span:
    """The nights with ``as_of`` in (start, end]."""

    start: datetime
    end: datetime

    def __contains__(self, moment: datetime) -> bool:
        return self.start < moment <= self.end

    def __str__(self) -> str:
        return f"{moment(self.start)} to {moment(self.end)}"


@dataclass(frozen=True)
class Plan:
    """Which nights a retrain looks at, as known at ``cutoff``.

    Parameters
    ----------
    learn
        The spans to learn from, oldest first; the last one ends where ``later`` begins.
    later
        The nights that challengers are compared on.
    stated_by
        Entities that were excluded by this moment do not enter.
    """

    cutoff: datetime
    learn: tuple[Span, ...]
    later: Span
    stated_by: datetime

    @property
    def border(self) -> datetime:
        """The last moment to learn from."""
        return self.later.start


@dataclass(frozen=True)
class NightSnapshot:
    """A night's snapshot, and when it was frozen."""

    as_of: datetime
    content_hash: str
    taken_at: datetime


@dataclass(frozen=True)
class Rows:
    """Labelled rows of a family: their columns with ``as_of``, their truth as text, their nights.

    ``snapshots`` are those that the rows come from, ``shortage`` says what could not be used.
    ``arrived`` says of each night of the family how many of its rows have labels, and how many it
    has that could.
    """

    table: pa.Table
    value: np.ndarray
    snapshots: Sequence[NightSnapshot]
    shortage: Shortage = field(default_factory=Shortage)
    arrived: Mapping[datetime, tuple[int, int]] = field(default_factory=dict)
    _places: dict[str, dict[str, np.ndarray]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __len__(self) -> int:
        return len(self.value)

    @property
    def nights(self) -> np.ndarray:
        """The night of each row."""
        return np.asarray(self.table["as_of"].to_numpy())

    def coverage(self, after: datetime | None = None) -> float | None:
        """The share of rows with labels, 0 to 1, on nights after a moment; None without rows."""
        counts = [count for night, count in self.arrived.items() if after is None or night > after]
        rows = sum(size for _, size in counts)
        return sum(labelled for labelled, _ in counts) / rows if rows else None

    def complete(self, least: float) -> Rows:
        """The rows of nights of which at least this share has labels.

        Which labels come first is no matter of chance: what is learnt from them alone is wrong.
        """
        short = {
            night for night, (labelled, size) in self.arrived.items() if labelled < least * size
        }
        if not short:
            return self
        kept = ~np.isin(self.nights, [np.datetime64(night.replace(tzinfo=None)) for night in short])
        return replace(
            self.where(kept),
            snapshots=[taken for taken in self.snapshots if taken.as_of not in short],
            shortage=replace(self.shortage, incomplete=sorted(short)),
            arrived={night: count for night, count in self.arrived.items() if night not in short},
        )

    def of(self, family: ModelFamily, model: Model) -> Rows:
        """The rows of one member; all of them for the model of the whole family."""
        if family.models is None or family.is_whole(model.name) or not len(self):
            return self
        places = self._members(family.models.by).get(model.name)
        return self.take(np.array([], dtype=np.int64) if places is None else places)

    def _members(self, by: str) -> Mapping[str, np.ndarray]:
        """The places of each member's rows in order: found once, for a factory asks for each."""
        if by not in self._places:
            codes, names = pd.factorize(np.asarray(self.table[by].to_numpy()))
            ends = np.cumsum(np.bincount(codes[codes >= 0], minlength=len(names)))
            order = np.argsort(codes, kind="stable")[int((codes < 0).sum()) :]
            places = np.split(order, ends[:-1])
            self._places[by] = dict(zip(names.tolist(), places, strict=True))
        return self._places[by]

    def after(self, moment: datetime) -> Rows:
        """The rows of nights later than a moment."""
        later = self
        if len(self):
            later = self.where(pc.greater(self.table["as_of"], pa.scalar(moment)))
        return replace(
            later,
            snapshots=[s for s in self.snapshots if s.as_of > moment],
            shortage=self.shortage.within(moment, None),
            arrived={night: count for night, count in self.arrived.items() if night > moment},
        )

    def until(self, moment: datetime) -> Rows:
        """The rows of nights up to a moment."""
        earlier = self
        if len(self):
            earlier = self.where(pc.less_equal(self.table["as_of"], pa.scalar(moment)))
        return replace(
            earlier,
            snapshots=[s for s in self.snapshots if s.as_of <= moment],
            shortage=self.shortage.within(None, moment),
            arrived={night: count for night, count in self.arrived.items() if night <= moment},
        )

    def within(self, spans: Sequence[Span]) -> Rows:
        """The rows of nights in any of some spans."""
        nights = {taken.as_of for taken in self.snapshots}
        inside = {night for night in nights if any(night in span for span in spans)}
        kept = self
        if len(self) and inside != nights:
            moments = [np.datetime64(night.replace(tzinfo=None)) for night in inside]
            kept = self.where(np.isin(self.nights, moments))
        return replace(
            kept,
            snapshots=[taken for taken in self.snapshots if taken.as_of in inside],
            shortage=self.shortage.of(lambda night: any(night in span for span in spans)),
            arrived={night: count for night, count in self.arrived.items() if night in inside},
        )

    def take(self, places: np.ndarray) -> Rows:
        """The rows at these places."""
        return replace(self, table=self.table.take(pa.array(places)), value=self.value[places])

    def where(self, chosen: Any) -> Rows:
        """The rows for which ``chosen`` is true."""
        mask = np.asarray(chosen)
        return replace(self, table=self.table.filter(pa.array(mask)), value=self.value[mask])


def plan(
    family: ModelFamily,
    cutoff: datetime,
    *,
    now: datetime,
    holdout: timedelta | None = None,
    learnt: Iterable[datetime] = (),
) -> Plan:
    """The nights to learn from by ``retrain.training``, and the later ones to compare on.

    All of them have matured at ``cutoff``.

    Parameters
    ----------
    learnt
        Until when the champions have learnt, from where the policy ``incremental`` goes on.
    """
    training = family.retrain.training
    end = cutoff - family.labels.maturity
    border = end - (family.promotion.holdout if holdout is None else holdout)
    window = Span(border - training.window, border)
    learn = [window]
    if training.policy == "mix":
        assert training.past is not None
        learn.insert(0, Span(window.start - training.past, window.start))
    elif training.policy == "same_season":
        for years in range(1, (training.years or 0) + 1):
            back = timedelta(weeks=round(years * YEAR / 7))
            season = Span(window.start - back, border + training.window - back)
            learn.insert(0, Span(season.start, min(season.end, learn[0].start)))
    elif training.policy == "incremental":
        learn = [Span(min([window.start, *learnt]), border)]
    return Plan(cutoff, tuple(learn), Span(border, end), now)


def since_break(
    cutoff: Plan, nights: Sequence[datetime], since: datetime, parts: tuple[int, int]
) -> Plan:
    """The plan that learns only from nights since a break, and compares on the latest of them.

    Parameters
    ----------
    nights
        Those since the break, oldest first.
    parts
        How many of them are learnt from, and how many compared on.
    """
    learnt, compared = parts
    border = nights[-compared - 1]
    learn = Span(since - INSTANT, border)
    assert nights[-compared - learnt] in learn
    return Plan(cutoff.cutoff, (learn,), Span(border, cutoff.later.end), cutoff.stated_by)


def young(family: ModelFamily, rows: Rows, plan: Plan, since: datetime | None) -> Plan | None:
    """The plan of a second challenger, which learns only from nights since a break.

    None where there was none within the nights to learn from, or where its rows do not suffice.

    Parameters
    ----------
    rows
        The labelled rows of one model, in the nights of the plan and in the later ones.
    """
    window = plan.learn[-1]
    goes_on = family.retrain.training.policy == "incremental"
    if since is None or goes_on or not window.start < since <= plan.later.end:
        return None
    own = rows.after(since - INSTANT)
    counts = Counter(own.table["as_of"].to_pylist()) if len(own) else Counter()
    nights = sorted(counts)
    holdout = sum(1 for _ in family.ticks(plan.later.start, plan.later.end))
    parts = after_break([counts[night] for night in nights], least_rows(family), holdout)
    return None if parts is None else since_break(plan, nights, since, parts)


def with_holdout(plan: Plan) -> Plan:
    """The same nights to learn from, and all later ones along, so that none is held out."""
    *before, last = plan.learn
    end = plan.later.end
    return Plan(plan.cutoff, (*before, Span(last.start, end)), Span(end, end), plan.stated_by)


def learnt_until(version: Version) -> datetime:
    """The last moment that a version has learnt from."""
    return version.manifest.training[1]


def learnable(
    family: ModelFamily, model: Model, rows: Rows, plan: Plan, base: Version | None = None
) -> Rows:
    """The rows that a model learns from.

    Parameters
    ----------
    rows
        Those of the family in ``plan.learn``.
    base
        The version that the policy ``incremental`` goes on from.
    """
    training, own = family.retrain.training, rows.of(family, model)
    if training.policy == "incremental":
        return own.after(learnt_until(base) if base else plan.border - training.window)
    if training.policy == "mix" and len(own):
        return own.take(_mixed(own, plan.learn[-1].start, training, family.estimator.seed))
    return own


def _mixed(rows: Rows, start: datetime, training: Training, seed: int) -> np.ndarray:
    """The places of all rows after ``start``, and of a sample of the earlier ones."""
    assert training.share is not None
    recent = np.asarray(pc.greater(rows.table["as_of"], pa.scalar(start)))
    past = np.flatnonzero(~recent)
    share_count = round(training.share / (1 - training.share) * int(recent.sum()))
    drawn = np.random.default_rng(seed).choice(past, min(share_count, len(past)), replace=False)
    return np.sort(np.concatenate([drawn, np.flatnonzero(recent)]))


def labelled_rows(
    database: Database,
    store: Store,
    family: ModelFamily,
    spans: Sequence[Span],
    known_by: datetime,
    *,
    now: datetime,
    renewable: bool = False,
) -> Rows:
    """Every row of the accepted snapshots in ``spans`` whose label is known by a moment.

    Rows of entities that were excluded by ``now`` are left out, and so are rows whose truth was
    stated by their own night already, and nights of which fewer labels are known than
    ``labels.min_coverage`` asks for.

    Parameters
    ----------
    renewable
        Whether nights that lack a column count all the same, with the columns that they have, since
        a training freezes them again.
    """
    start, end = spans[0].start, spans[-1].end
    with database.transaction() as tx:
        accepted = tx.rows("training.snapshots", family=family.family, start=start, end=end)
    nights = [NightSnapshot(row.as_of, row.content_hash, row.taken_at) for row in accepted]
    chosen = [night for night in nights if any(night.as_of in span for span in spans)]
    rows = rows_of(database, store, family, chosen, start, known_by, now, renewable=renewable)
    with database.transaction() as tx:
        frozen = tx.rows("snapshots.nights", family=family.family, start=start, end=end)
    frozen_nights = {row.as_of for row in frozen}
    usable = {night.as_of for night in chosen}
    rejected = {row.as_of for row in frozen if row.verdict == "rejected"} - usable
    ticks = [tick for span in spans for tick in family.ticks(span.start, span.end)]
    shortage = replace(
        rows.shortage,
        rejected=[night for night in rejected if any(night in span for span in spans)],
        absent=[tick for tick in ticks if tick not in frozen_nights],
    )
    return replace(rows, shortage=shortage).complete(family.labels.min_coverage)


def rows_of(
    database: Database,
    store: Store,
    family: ModelFamily,
    nights: Sequence[NightSnapshot],
    start: datetime,
    known_by: datetime,
    stated_by: datetime,
    *,
    renewable: bool = False,
) -> Rows:
    """The rows of some nights whose label became known after ``start`` and by ``known_by``."""
    with database.bulk() as bulk:
        window = {"family": family.family, "start": start, "known_by": known_by}
        labels = bulk.read(query_text("training.labels"), window).to_pandas()
    with database.transaction() as tx:
        excluded = excluded_entities(tx, family.family, stated_by)
    labels = labels[~labels["entity_id"].isin(excluded)]
    tables, used, unlike, columns = [], [], [], {}
    for night in nights:
        frozen = store.read_table(night.content_hash)
        problems = shape_problems(frozen.schema, family.features, family.keys, exact=False)
        if problems and not renewable:
            unlike.append(night.as_of)
            columns.update(dict.fromkeys(problems))
        else:
            tables.append(_night(frozen, family, night.as_of))
            used.append(night)
    shortage = Shortage(
        accepted=[night.as_of for night in used],
        unlike=unlike,
        columns=tuple(columns),
        labels=len(labels),
    )
    if not tables or labels.empty:
        return Rows(pa.table({}), np.array([], dtype=object), used, shortage)
    table = pa.concat_tables(tables, promote_options="permissive")
    truths = _truths_of(table, labels)
    answered = truths["value"].notna()
    in_time = truths["first_stated"] > truths["as_of"]
    labelled = (answered & in_time).to_numpy()
    shortage = replace(
        shortage,
        answering=int(answered.sum()),
        early=int((answered & ~in_time).sum()),
        examples=_examples(labels, table),
    )
    values = truths["value"].to_numpy()[labelled]
    due = ~truths["entity_id"].isin(excluded)
    arrived = _arrived(database, family, truths[due], start)
    return Rows(table.filter(pa.array(labelled)), values, used, shortage, arrived)


def _arrived(
    database: Database, family: ModelFamily, truths: pd.DataFrame, start: datetime
) -> dict[datetime, tuple[int, int]]:
    """By night, how many rows have labels, of how many.

    Who had a truth before ``start`` can have no later one where a label answers an entity for good,
    and is not counted.
    """
    answered = truths["value"].notna()
    counts = answered.groupby(truths["as_of"]).agg(["sum", "size"])
    short = counts.index[counts["sum"] < family.labels.min_coverage * counts["size"]]
    if len(short) and family.labels.per == "entity":
        open_rows = ~answered & truths["as_of"].isin(short)
        entities = truths.loc[open_rows, "entity_id"].unique().tolist()
        with database.transaction() as tx:
            rows = tx.rows(
                "training.stated_before", family=family.family, start=start, entities=entities
            )
        known = {row.entity_id for row in rows}
        counts = answered[~(open_rows & truths["entity_id"].isin(known))]
        counts = counts.groupby(truths["as_of"]).agg(["sum", "size"])
    return {
        night.to_pydatetime(): (int(labelled), int(size))
        for night, labelled, size in counts.itertuples()
    }


def _examples(labels: pd.DataFrame, table: pa.Table) -> tuple[str, str] | None:
    """An entity as labels name it, and one as features do."""
    if not table.num_rows:
        return None
    return str(labels["entity_id"].iloc[0]), str(table["entity_id"][0].as_py())


def without_learnt(
    store: Store,
    family: ModelFamily,
    rows: Rows,
    versions: Iterable[Version],
    met: dict[str, pa.ChunkedArray],
) -> Rows:
    """The rows of entities that none of the versions has met in training.

    Where a label answers an entity for good, whoever has learnt it knows the answer on any night.

    Parameters
    ----------
    met
        The entities by snapshot, as far as they were read already; filled here.
    """
    if family.labels.per != "entity" or not len(rows):
        return rows
    learnt = {content_hash for version in versions for content_hash in version.manifest.snapshots}
    for content_hash in learnt - met.keys():
        met[content_hash] = store.read_table(content_hash, ["entity_id"])["entity_id"]
    entities = pa.chunked_array(
        [chunk for content_hash in learnt for chunk in met[content_hash].chunks], pa.string()
    )
    return rows.where(pc.invert(pc.is_in(rows.table["entity_id"], value_set=entities)))


def _night(frozen: pa.Table, family: ModelFamily, as_of: datetime) -> pa.Table:
    moments = pa.array([as_of] * frozen.num_rows, pa.timestamp("us", "UTC"))
    columns = [name for name in family.columns if name in frozen.column_names]
    return frozen.select(columns).append_column("as_of", moments)


def _truths_of(table: pa.Table, labels: pd.DataFrame) -> pd.DataFrame:
    """The label of each row, by entity, or by entity and as_of where labels answer one."""
    keys = table.select(["entity_id", "as_of"]).to_pandas()
    if labels["answers"].isna().all():
        return keys.merge(labels.drop(columns="answers"), how="left", on="entity_id")
    return keys.merge(
        labels, how="left", left_on=["entity_id", "as_of"], right_on=["entity_id", "answers"]
    )


def least_rows(family: ModelFamily) -> int:
    """With fewer labelled rows than this nothing is trained."""
    return family.retrain.training.min_rows or family.performance.min_labels
