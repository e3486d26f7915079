"""A row or two of every table as each revision knew it, for migrations to carry forward.

Whoever adds a table or a column adds a line here: a table without a row fails the test.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

FIRST, LAST = "0001", "9999"
NIGHT, MONITOR = "2026-01-01 02:00+00", "2026-01-01 06:00+00"


@dataclass(frozen=True)
class Decided:
    """A decision as it was first stored, and what its columns say by now."""

    since: str
    kind: str
    rule: str
    subject: str
    about: str
    about_id: int | None = None
    kind_now: str = ""
    inputs: dict[str, Any] = field(default_factory=dict)
    alarming: bool = False
    severity: int = 0
    falling_since: str | None = None

    def __iter__(self) -> Any:
        return iter((self.kind_now or self.kind, self.alarming, self.severity, self.falling_since))

    @property
    def now(self) -> tuple[Any, ...]:
        kind, alarming, severity, falling_since = self
        return (
            self.subject,
            kind,
            self.about,
            self.about_id,
            alarming,
            severity,
            falling_since,
        )


def measured(state: str = "measured", value: float | None = 1.0, **more: Any) -> dict[str, Any]:
    """The inputs of a decision by measurements: intervals of one standard error, threshold 5."""
    figures = {"low": 0.0, "high": 3.92, "threshold": 5.0} if value is not None else {}
    empty = {"low": None, "high": None, "threshold": 5.0}
    return {"measurements": [{"state": state, "value": value, **(figures or empty)}], **more}


FALLING = {"evidence": 12.0, "limit": 2.0, "since": "2025-12-30T02:00:00+00:00"}
DECISIONS = (
    Decided(FIRST, "retrain", "on_demand", "request 2026-01-01T02:00:00+00:00 ada: new", "request"),
    Decided(FIRST, "promote", "unopposed", "comparison 1", "comparison", 1),
    Decided(FIRST, "keep", "measured", "monitor 1", "monitor", inputs=measured("immature", None)),
    Decided(
        FIRST,
        "alert",
        "cooldown",
        "monitor 2",
        "monitor",
        inputs=measured("breached"),
        alarming=True,
        severity=4,
    ),
    Decided(FIRST, "promote", "by_hand", "promote 1: shadow 7", "version", 1),
    Decided(FIRST, "keep", "test", "something else", "other"),
    Decided(
        "0002",
        "hold",
        "group_hold",
        "monitor 3",
        "monitor",
        kind_now="wait",
        inputs=measured("breached", votes={"f": "fail"}),
        alarming=True,
        severity=4,
    ),
    Decided(
        "0002",
        "retrain",
        "shift",
        "monitor 4",
        "monitor",
        inputs=measured(shift=FALLING),
        alarming=True,
        severity=6,
        falling_since="2025-12-30 02:00:00+00",
    ),
    Decided(
        "0002",
        "defer",
        "budget",
        "monitor 5",
        "monitor",
        alarming=True,
        severity=4,
        inputs=measured(asked_by="signal drift"),
    ),
    Decided("0003", "hold", "approval", "comparison 2", "comparison", 2, "ask"),
    Decided("0003", "reject", "declined", "approval 1", "approval", 1),
    Decided("0003", "shadow", "proof", "comparison 3", "comparison", 3),
    Decided("0003", "hold", "approval", "shadow 1", "shadow", 1, "ask"),
    Decided("0003", "rollback", "probation", "probation 2 of promotion 3", "probation", 3),
    Decided("0003", "rollback", "by_hand", "rollback 2026-01-01 ada: shadow 1", "rollback"),
    Decided(
        "0005",
        "hold",
        "held",
        "monitor 6",
        "monitor",
        kind_now="held",
        severity=4,
        inputs=measured("breached", asked_by="breaches"),
        alarming=True,
    ),
    Decided("0005", "hold", "held", "comparison 4", "comparison", 4, "ask"),
)

CHAIN = [(decided.since, decided.now) for decided in DECISIONS]
"""What every decision says after all migrations."""


def _decision(decided: Decided, *, columns: bool) -> str:
    values = {
        "model_id": "1",
        "kind": f"'{decided.kind}'",
        "rule": f"'{decided.rule}'",
        "reason": "'told'",
        "as_of": f"'{MONITOR}'",
        "inputs": f"'{json.dumps(decided.inputs)}'",
        "subject": f"'{decided.subject}'",
        "decided_at": f"'{MONITOR}'",
    }
    if columns:
        kind, alarming, severity, falling_since = decided
        values |= {
            "kind": f"'{kind}'",
            "about": f"'{decided.about}'",
            "about_id": str(decided.about_id or "null"),
            "alarming": str(alarming).lower(),
            "severity": str(severity),
            "falling_since": f"'{falling_since}'" if falling_since else "null",
        }
    names, values_told = ", ".join(values), ", ".join(values.values())
    return f"insert into nightshift.decisions ({names}) values ({values_told})"


_OF_REQUEST = "(select decision_id from nightshift.decisions where rule = 'on_demand')"
_OF_SHADOW = "(select decision_id from nightshift.decisions where kind = 'shadow')"
_HASH = "repeat('a', 64)"

ROWS = (
    (
        FIRST,
        LAST,
        f"insert into nightshift.models (family, name, created_at) values ('f', 'f', '{NIGHT}')",
    ),
    (
        FIRST,
        LAST,
        "insert into nightshift.snapshots (family, as_of, revision, content_hash,"
        " row_count, dropped_rows, query_hash, taken_at)"
        f" values ('f', '{NIGHT}', 1, {_HASH}, 2, 0, '', '{NIGHT}')",
    ),
    (
        FIRST,
        LAST,
        "insert into nightshift.validations (snapshot_id, rules_hash, verdict, checks,"
        f" validated_at) values (1, '', 'passed', '[]', '{NIGHT}')",
    ),
    *((one.since, "0008", _decision(one, columns=False)) for one in DECISIONS),
    *((max(one.since, "0009"), LAST, _decision(one, columns=True)) for one in DECISIONS),
    (
        FIRST,
        LAST,
        "insert into nightshift.versions (model_id, number, artifact_hash, signature,"
        f" manifest, decision_id, trained_at) values (1, 1, {_HASH}, '', '{{}}', {_OF_REQUEST},"
        f" '{NIGHT}')",
    ),
    (
        FIRST,
        "0002",
        "insert into nightshift.comparisons (challenger_version, metric, holdout_start,"
        " holdout_end, row_count, compared_at)"
        f" values (1, 'r2', '{NIGHT}', '{NIGHT}', 2, '{NIGHT}')",
    ),
    (
        "0003",
        LAST,
        "insert into nightshift.comparisons (decision_id, challenger_version, metric,"
        f" holdout_start, holdout_end, row_count, compared_at)"
        f" values ({_OF_REQUEST}, 1, 'r2', '{NIGHT}', '{NIGHT}', 2, '{NIGHT}')",
    ),
    (
        FIRST,
        LAST,
        "insert into nightshift.promotions (model_id, seq, version_id, decision_id,"
        f" effective_from, promoted_at) values (1, 1, 1, {_OF_REQUEST}, '{NIGHT}', '{NIGHT}')",
    ),
    (
        FIRST,
        LAST,
        "insert into nightshift.batches (family, as_of, snapshot_id, version_ids,"
        " row_count, state, started_at)"
        f" values ('f', '{NIGHT}', 1, '{{1}}', 2, 'written', '{NIGHT}')",
    ),
    (
        FIRST,
        "0003",
        "insert into nightshift.prediction_rows (batch_id, version_id, entity_id,"
        " score, label, flags) values (1, 1, 'a', 0.5, '1', 0), (1, 1, 'b', 0.25, '0', 3)",
    ),
    ("0004", LAST, f"select nightshift.open_month('{NIGHT}')"),
    (
        "0004",
        LAST,
        "insert into nightshift.prediction_rows (as_of, batch_id, version_id, model_id,"
        f" entity_id, score, label, flags) values ('{NIGHT}', 1, 1, 1, 'a', 0.5, '1', 0),"
        f" ('{NIGHT}', 1, 1, 1, 'b', 0.25, '0', 3)",
    ),
    (
        FIRST,
        LAST,
        "insert into nightshift.published (family, as_of, batch_id, published_at)"
        f" values ('f', '{NIGHT}', 1, '{NIGHT}')",
    ),
    (
        FIRST,
        FIRST,
        "insert into nightshift.labels (family, entity_id, value, event_at, known_at,"
        f" collected_at) values ('f', 'a', '1', '{NIGHT}', '{NIGHT}', '{NIGHT}')",
    ),
    (
        "0002",
        LAST,
        "insert into nightshift.labels (family, entity_id, value, event_at, known_at,"
        f" stated_at, collected_at)"
        f" values ('f', 'a', '1', '{NIGHT}', '{NIGHT}', '{NIGHT}', '{NIGHT}')",
    ),
    (
        FIRST,
        LAST,
        "insert into nightshift.measurements (model_id, metric, as_of, window_start,"
        " window_end, state, value, predictions, labels, threshold, measured_at)"
        f" values (1, 'r2', '{MONITOR}', '{NIGHT}', '{NIGHT}', 'measured', 0.5, 2, 1, 0.1,"
        f" '{MONITOR}')",
    ),
    (
        FIRST,
        LAST,
        "insert into nightshift.events (happened_at, code, family, as_of, detail)"
        f" values ('{NIGHT}', 'published', 'f', '{NIGHT}', '{{}}')",
    ),
    (
        "0002",
        LAST,
        "insert into nightshift.memberships (model_id, as_of, state)"
        f" values (1, '{NIGHT}', 'active')",
    ),
    (
        "0002",
        LAST,
        "insert into nightshift.batch_models (batch_id, model_id, version_id, row_count)"
        " values (1, 1, 1, 2)",
    ),
    (
        "0002",
        LAST,
        "insert into nightshift.label_collections (family, since, as_of, found, added,"
        " duplicates, corrections, contradictions, late, collected_at)"
        f" values ('f', '{NIGHT}', '{MONITOR}', 1, 1, 0, 0, 0, 0, '{MONITOR}')",
    ),
    (
        "0002",
        LAST,
        "insert into nightshift.signals (batch_id, model_id, version_id, signal,"
        " feature, value, level, row_count, watched_at)"
        f" values (1, 1, 1, 'drift', 'x', 0.1, 'ok', 2, '{NIGHT}')",
    ),
    (
        "0002",
        "0008",
        "insert into nightshift.alerts (family, cause, subject, message, raised_at)"
        " values ('f', 'breach', '2026-01-01T06:00:00+00:00', 'f: breached: at 3: 15',"
        f" '{MONITOR}')",
    ),
    (
        "0009",
        LAST,
        "insert into nightshift.alerts (family, cause, subject, title, message, as_of,"
        " raised_at) values ('f', 'breach', '2026-01-01T06:00:00+00:00', 'f: breached',"
        f" 'f: breached: at 3: 15', '{MONITOR}', '{MONITOR}')",
    ),
    (
        "0002",
        LAST,
        "insert into nightshift.alert_deliveries (alert_id, notifier, delivered_at)"
        f" values (1, 'mail', '{MONITOR}')",
    ),
    (
        "0003",
        LAST,
        "insert into nightshift.collected_artifacts (artifact_hash, collected_at)"
        f" values (repeat('b', 64), '{NIGHT}')",
    ),
    (
        "0003",
        LAST,
        "insert into nightshift.exclusions (family, entity_id, state, reason, said_by,"
        f" as_of, recorded_at) values ('f', 'a', 'erased', 'asked', 'ada', '{NIGHT}', '{NIGHT}')",
    ),
    (
        "0003",
        LAST,
        "insert into nightshift.shadows (model_id, version_id, instead_of, decision_id,"
        f" comparison_id, starts, ends) values (1, 1, 1, {_OF_SHADOW}, 1, '{NIGHT}', '{NIGHT}')",
    ),
    (
        "0003",
        LAST,
        "insert into nightshift.trials (model_id, as_of, kind, older, newer, metric,"
        " nights, row_count, evidence, needed, judged_at)"
        f" values (1, '{MONITOR}', 'shadow', 1, 1, 'r2', 1, 2, 3, 20, '{MONITOR}')",
    ),
    (
        "0015",
        LAST,
        "insert into nightshift.recollections (model_id, seq, version_id, as_of, gain, row_count)"
        f" values (1, 1, 1, '{NIGHT}', 0.5, 2)",
    ),
    (
        "0003",
        LAST,
        "insert into nightshift.approvals (comparison_id, evidence, evidence_hash,"
        f" asked_at) values (1, 'proof', '', '{MONITOR}')",
    ),
    (
        "0003",
        LAST,
        "insert into nightshift.answers (approval_id, answer, said_by, evidence_hash,"
        f" decision_id, answered_at) values (1, 'declined', 'ada', '', {_OF_REQUEST}, '{MONITOR}')",
    ),
    (
        "0004",
        LAST,
        "insert into nightshift.retirements (month, ends, retired_at)"
        f" values ('2025-01-01', '2025-02-01Z', '{NIGHT}')",
    ),
    (
        "0005",
        LAST,
        "insert into nightshift.holds (family, held, reason, said_by, recorded_at)"
        f" values ('f', true, 'a strike', 'ada', '{NIGHT}')",
    ),
    ("0006", LAST, "insert into nightshift.batch_parts (batch_id, part, plan) values (1, 1, '{}')"),
    (
        "0007",
        LAST,
        "insert into nightshift.pseudonym_keys (family, method, key_id, recorded_at)"
        f" values ('f', 'hmac', repeat('a', 16), '{NIGHT}')",
    ),
    (
        "0011",
        LAST,
        "insert into nightshift.labels_set_aside (family, entity_id, value, event_at,"
        " stated_at, reason, collected_at) values ('f', 'a', '-1', "
        f"'{NIGHT}', '{NIGHT}', 'at least 0', '{NIGHT}')",
    ),
    (
        "0011",
        LAST,
        "insert into nightshift.labels_set_aside (family, entity_id, value, event_at,"
        f" stated_at, reason, collected_at)"
        f" values ('f', 'b', '-1', '{NIGHT}', '{NIGHT}', 'at least 0', '{NIGHT}')",
    ),
)
"""From which revision on, up to which one, and a statement that gives a table a row."""
