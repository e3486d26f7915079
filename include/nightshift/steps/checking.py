"""``check --source``: what a family's source answers today, before any night depends on it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from nightshift import fleet, monitoring, night, stats, tables, training, wording
from nightshift.data import Store
from nightshift.errors import FOREIGN, NightshiftError, SourceError
from nightshift.family import Fault, ModelFamily, Models, load_families
from nightshift.records import Snapshot
from nightshift.site import Site
from nightshift.sources import Names, Source
from nightshift.steps.frame import source_of
from nightshift.wording import moment, nearest

NIGHTS = 3
"""How many nights are looked at, the latest of them and those whose labels are due."""

FEWEST_LABELS = 20
"""With fewer labels nothing is said of the metric."""

TOLD_OF_KEYS = frozenset({"row_count", "not_null", "unique"})
"""Guards about rows and keys, which are counted beside."""

SAME_ENTITIES = 0.9
"""From this share on, two nights in a row hold the same entities."""


@dataclass(frozen=True)
class Finding:
    """One line about a family: what was looked at, what is there, and whether it must be mended."""

    family: str
    subject: str
    sentence: str
    problem: bool = False


def check_source(site: Site, families: Sequence[str], *, now: datetime) -> list[Finding]:
    """Ask the source of each family what a night and its labels would be; nothing is written.

    A query that fails is a problem, of its family alone. An outage is raised: nothing is known.

    Parameters
    ----------
    families
        Their names.
    now
        The latest tick of each schedule at or before it is the night that is asked about.
    """
    findings: list[Finding] = []
    for name in families:
        try:
            family = site.family(name)
            findings += _Check(family, source_of(site, family), now).findings()
        except NightshiftError as error:
            if error.transient:
                raise
            findings.append(Finding(name, "", str(error), problem=True))
        except FOREIGN as error:  # what nobody foresaw of one family must not hide the others
            unforeseen = f"[internal] {type(error).__name__}: {error}"
            findings.append(Finding(name, "", unforeseen, problem=True))
    return findings


def loadable(site: Site) -> list[str]:
    """The families whose folders load; what is wrong with the others is told without a source."""
    return [family.family for family in load_families(site.models)[0]]


@dataclass
class _Check:
    family: ModelFamily
    source: Source
    now: datetime

    def findings(self) -> Iterator[Finding]:
        columns = list(self._columns())
        yield from columns
        in_order = not any(finding.problem for finding in columns)
        if in_order:
            last = self.family.previous_tick(self.now)
            yield from self._night(last, self._entities(last))
            yield from self._verdict(last)
        yield from self._labels(of_nights=in_order)

    def _finding(self, subject: str, sentence: str, *, problem: bool = False) -> Finding:
        return Finding(self.family.family, subject, sentence, problem)

    def _columns(self) -> Iterator[Finding]:
        """Columns and types of features.sql, beside everything in model.yaml that names one."""
        family = self.family
        question = night.features_question(family, family.previous_tick(self.now))
        try:
            schema = self.source.columns(question)
        except SourceError as error:
            yield self._finding("features.sql", str(error), problem=True)
            return
        problems = night.column_problems(family, schema)
        for position, expectation in enumerate(family.expectations):
            for key, name in expectation.arguments.items():
                if key in ("column", "column_A", "column_B") and name not in family.columns:
                    problems.append(
                        f"model.yaml: expectations.{position}: there is no column"
                        f" {name!r}{nearest(str(name), family.columns)}"
                    )
        for problem in problems:
            yield self._finding("features.sql", problem, problem=True)
        if not problems:
            yield self._finding("features.sql", f"{len(family.columns)} columns, as declared")

    def _entities(self, as_of: datetime) -> pa.Table:
        """``entity_id``, and the members' column where there is one, of the rows of a night."""
        names = ["entity_id", *([self.family.models.by] if self.family.models else [])]
        parts = []
        with self.source.stream(night.features_question(self.family, as_of)) as (schema, batches):
            for batch in batches:
                rows = pa.Table.from_batches([batch])
                if "known_at" in rows.schema.names:
                    in_time = pc.less_equal(rows["known_at"], pa.scalar(as_of))
                    rows = rows.filter(pc.fill_null(in_time, False))
                parts.append(tables.with_keys(rows.select(names), names))
            empty = pa.schema([schema.field(name) for name in names]).empty_table()
        return pa.concat_tables([tables.with_keys(empty, names), *parts])

    def _night(self, as_of: datetime, rows: pa.Table) -> Iterator[Finding]:
        family, ids = self.family, rows["entity_id"]
        none = not rows.num_rows and not family.allow_empty
        yield self._finding("night", f"{rows.num_rows:,} rows at {moment(as_of)}", problem=none)
        if missing := ids.null_count:
            yield self._unfit(missing, rows, "missing_key", "without an entity_id")
        present = ids.drop_null()
        if doubled := len(present) - len(present.unique()):
            which = "" if family.discreet else f", such as {_repeated(present)!r}"
            yield self._unfit(doubled, rows, "repeated_key", f"with an entity_id of others{which}")
        if family.models:
            yield from self._members(rows, family.models)
        if family.labels.per == "entity" and family.source.history == "append_only":
            yield from self._same_entities(as_of, present.unique())

    def _verdict(self, as_of: datetime) -> Iterator[Finding]:
        """What the night would be refused for, and whether its rows can be learnt from."""
        family = self.family
        with tempfile.TemporaryDirectory(prefix="nightshift-check-") as folder:
            store = Store(Path(folder))
            origin = night.Origin(self.source, Names(family.family))
            snapshot = _unkept(family, as_of, night.take(store, origin, family, as_of))
            [checks] = night.checks_of(store, family, [snapshot])
            rows = store.read_table(snapshot.content_hash, family.features.names)
        for check in checks:
            if not check.success and check.expectation not in TOLD_OF_KEYS:
                critical = check.severity == "critical"
                outcome = "be refused" if critical else "be published with a warning"
                sentence = f"would {outcome}: {night.check_sentence(family, check)}"
                yield self._finding("night", sentence, problem=critical)
        for fault, faulty in snapshot.left_out.items():
            rows_left = wording.count(faulty["rows"], "row")
            yield self._finding("night", f"{rows_left} left out: {fault.replace('_', ' ')}")
        problem = training.fit_problem(family, rows)
        if problem is not None:
            yield self._finding("estimator.build", problem, problem=True)

    def _unfit(self, count: int, rows: pa.Table, fault: Fault, what: str) -> Finding:
        """Rows that cannot be scored: to be mended, unless the file lets them be left out."""
        allowed = self.family.rows
        sentence = f"{wording.count(count, 'row')} {what}"
        left = fault in allowed.excusable and not allowed.too_many(count, rows.num_rows)
        if left:
            sentence += ", left out as rows.leave_out says"
        subject = "models.by" if fault == "missing_member" else "night"
        return self._finding(subject, sentence, problem=not left)

    def _members(self, rows: pa.Table, models: Models) -> Iterator[Finding]:
        column = rows[models.by]
        if column.null_count:
            yield self._unfit(column.null_count, rows, "missing_member", f"without {models.by}")
        members = column.drop_null().unique().to_pylist()
        yield self._finding("models.by", f"{len(members):,} members in {models.by}")
        if models.fallback and self.family.family in members:
            yield self._finding("models.by", fleet.taken_name(self.family), problem=True)
        for key, named in models.named.items():
            spelt = {name.strip().casefold(): name for name in members}
            for name in sorted(named.difference(members)):
                meant = spelt.get(name.strip().casefold())
                if meant is not None and meant not in named:
                    yield self._finding(
                        key,
                        f"{name!r} is no value of {models.by}, and {meant!r} is: names are taken"
                        " letter by letter",
                        problem=True,
                    )

    def _same_entities(self, as_of: datetime, ids: pa.Array) -> Iterator[Finding]:
        before = self.family.previous_tick(as_of - timedelta(microseconds=1))
        earlier = self._entities(before)["entity_id"].unique()
        if not len(ids) or not len(earlier):
            return
        share = pc.mean(pc.is_in(ids, earlier)).as_py()
        if share >= SAME_ENTITIES:
            yield self._finding(
                "labels.per",
                f"{share:.0%} of these entities were in the night before: a label would answer"
                " for every night of its entity. Write labels: {per: entity_and_as_of}, and let"
                " labels.sql return as_of",
                problem=True,
            )

    def _labels(self, *, of_nights: bool) -> Iterator[Finding]:
        """What labels.sql returns, and with ``of_nights`` whom of the last nights it answers."""
        family = self.family
        since = monitoring.first_look(family, self.now)
        try:
            labels = monitoring.known_labels(self.source, family, since, self.now)
        except NightshiftError as error:
            if error.transient:
                raise
            yield self._finding("labels.sql", str(error), problem=True)
            return
        stretch = f"known since {moment(since)}"
        if not labels.num_rows:
            yield self._finding("labels.sql", f"no labels {stretch}", problem=True)
            return
        yield self._finding("labels.sql", f"{labels.num_rows:,} labels {stretch}")
        yield from self._metric(labels)
        if not of_nights:
            return
        if family.source.history == "mutable":
            yield self._finding(
                "labels",
                "which nights they answer is seen once nights are frozen:"
                " source.history is mutable",
            )
            return
        yield from self._answers(labels)

    def _metric(self, labels: pa.Table) -> Iterator[Finding]:
        """What a constant guess is worth on the labels there are, and where the metric has none."""
        performance = self.family.performance
        if labels.num_rows < FEWEST_LABELS:
            return
        guess = monitoring.constant_guess(self.family, labels["value"].to_pandas())
        if isinstance(guess, stats.Undefined):
            yield self._finding(
                "performance.metric",
                f"{performance.metric} has no value on these {labels.num_rows:,} labels:"
                f" {guess.reason}",
                problem=True,
            )
            return
        sentence = f"a constant guess is worth {guess.value:.4g} in {performance.metric}"
        if guess.remark:
            sentence += f"; {guess.remark}: see labels.expectations, or a metric that bears it"
        level = performance.threshold
        if level is not None and level <= guess.value:
            sentence += f"; who has learnt nothing never breaches the threshold {level:g}"
        yield self._finding("performance.metric", sentence)

    def _answers(self, labels: pa.Table) -> Iterator[Finding]:
        """How many entities of the last nights, whose labels are due, have one."""
        family = self.family
        tick = family.previous_tick(self.now - family.labels.maturity)
        for _ in range(NIGHTS):
            ids = self._entities(tick)["entity_id"].drop_null().unique()
            if len(ids):
                yield self._answered(tick, ids, labels)
            tick = family.previous_tick(tick - timedelta(microseconds=1))

    def _answered(self, tick: datetime, ids: pa.Array, labels: pa.Table) -> Finding:
        family = self.family
        if "as_of" in labels.schema.names:
            labels = labels.filter(pc.equal(labels["as_of"], pa.scalar(tick)))
        answered = pc.sum(pc.is_in(ids, labels["entity_id"].combine_chunks())).as_py()
        sentence = f"{answered:,} of {len(ids):,} entities of {moment(tick)} have a label"
        too_few = answered < family.labels.min_coverage * len(ids)
        if too_few:
            sentence += f"; labels.min_coverage asks for {family.labels.min_coverage:.0%}"
        if not answered and labels.num_rows and not family.discreet:
            sentence += (
                f". features.sql says {ids[0].as_py()!r}, labels.sql"
                f" {labels['entity_id'][0].as_py()!r}: are both the same kind of name?"
            )
        return self._finding("labels", sentence, problem=too_few)


def _unkept(family: ModelFamily, as_of: datetime, taken: night.Taken) -> Snapshot:
    """A snapshot that is in no database."""
    return Snapshot(
        snapshot_id=0,
        family=family.family,
        as_of=as_of,
        content_hash=taken.content_hash,
        row_count=taken.row_count,
        dropped_rows=taken.dropped_rows,
        query_hash="",
        revision=1,
        taken_at=as_of,
        left_out=taken.left_out,
    )


def _repeated(ids: pa.ChunkedArray) -> str:
    counts = pc.value_counts(ids)
    return str(counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"].as_py())
