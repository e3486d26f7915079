"""``make bench-web``: the fleet of 5,000 models with a year of history, as a browser meets it.

An embedded Postgres is filled with what 365 nights of 5,000 models leave behind, and the pages are
served by uvicorn without Airflow, to a reader who may see everything.
"""

from __future__ import annotations

from nightshift.embedded import Postgres, session

MODELS, NIGHTS, FAMILIES = 5_000, 365, 10
LAST = "timestamptz '2026-11-03 02:00+00'"

_HISTORY = f"""
select setseed(0.5);
set synchronous_commit = off;
alter table nightshift.decisions disable trigger chain;

insert into nightshift.models (family, name, created_at)
select 'family_' || mod(n, {FAMILIES}), 'member-' || to_char(n, 'FM00000'), {LAST} - interval '1 year'
from generate_series(1, {MODELS}) n;

insert into nightshift.memberships (model_id, as_of, state, group_name)
select model_id, {LAST} - interval '1 year', 'active', 'group ' || chr(65 + mod(model_id / {FAMILIES}, 8))
from nightshift.models;

create temporary table nights as
select n, {LAST} - make_interval(days => {NIGHTS} - n) as as_of
from generate_series(1, {NIGHTS}) n;

insert into nightshift.decisions
    (model_id, kind, rule, reason, as_of, inputs, subject, decided_at, seq, prev_hash, hash)
select model_id, 'retrain', 'on_demand', 'the first models', {LAST} - interval '1 year', '{{}}',
       'asked', {LAST} - interval '1 year', model_id, '', ''
from nightshift.models;

insert into nightshift.versions (model_id, number, artifact_hash, signature, manifest, decision_id, trained_at)
select model_id, 1, repeat('0', 64), '', '{{"rows": 1000}}', decision_id, as_of
from nightshift.decisions;

insert into nightshift.promotions (model_id, seq, version_id, decision_id, effective_from, promoted_at)
select model_id, 1, version_id, decision_id, trained_at, trained_at
from nightshift.versions;

-- Night by night, as they are written. One model in a hundred sinks in the last week.
insert into nightshift.measurements
    (model_id, metric, as_of, window_start, window_end, state, value, low, high, predictions, labels,
     threshold, measured_at, version_id, method, reference, nights)
select v.model_id, 'roc_auc', n.as_of + interval '4 hours', n.as_of - interval '9 days', n.as_of - interval '2 days',
       case when x.value + 0.02 < 0.7 then 'breached' else 'measured' end,
       x.value, x.value - 0.02, x.value + 0.02, 1400, 1380, 0.7, n.as_of + interval '4 hours', v.version_id,
       'DeLong (1988)', 0.8,
       (select jsonb_agg(jsonb_build_object('as_of', n.as_of - make_interval(days => d), 'predictions', 200,
                                            'labels', 197, 'value', x.value, 'error', 0.02))
        from generate_series(3, 9) d)
from nights n
cross join nightshift.versions v
cross join lateral (
    select 0.78 + 0.02 * random() - case when mod(v.model_id, 100) = 7 and n.n > {NIGHTS} - 7 then 0.12 else 0 end as value
) x
order by n.n, v.model_id;

insert into nightshift.measurements
    (model_id, metric, as_of, window_start, window_end, state, value, low, high, predictions, labels,
     threshold, measured_at, method, reference)
select model_id, metric, as_of, window_start, window_end, state, value, low, high, predictions, labels,
       threshold, measured_at, method, reference
from nightshift.measurements
order by measurement_id;

insert into nightshift.decisions
    (model_id, kind, rule, reason, as_of, inputs, subject, decided_at, seq, prev_hash, hash)
select x.model_id, case when x.state = 'breached' then 'defer' else 'keep' end,
       case when x.state = 'breached' then 'budget' else 'healthy' end,
       'roc_auc ' || round(x.value::numeric, 4) || ' (' || round(x.low::numeric, 4) || ' to '
       || round(x.high::numeric, 4) || ') on 1,380 labels, against the threshold 0.7',
       x.as_of, jsonb_build_object('measurement', x.measurement_id, 'cooldown', null, 'last_retrain', null),
       'monitoring ' || x.as_of, x.as_of, {MODELS} + row_number() over (order by x.measurement_id), '', md5(x.measurement_id::text)
from nightshift.measurements x
where x.version_id is not null
order by x.measurement_id;

insert into nightshift.snapshots
    (family, as_of, revision, content_hash, row_count, dropped_rows, query_hash, taken_at)
select 'family_' || f, as_of, 1, repeat('0', 64), 100000, 0, '', as_of + interval '1 minute'
from nights, generate_series(0, {FAMILIES} - 1) f order by n;

insert into nightshift.batches
    (family, as_of, snapshot_id, version_ids, row_count, state, started_at, written_at)
select family, as_of, snapshot_id, '{{}}', row_count, 'written', taken_at, taken_at + interval '1 minute'
from nightshift.snapshots order by snapshot_id;

insert into nightshift.published (family, as_of, batch_id, published_at)
select family, as_of, batch_id, written_at from nightshift.batches;

insert into nightshift.events (happened_at, code, family, as_of, detail)
select published_at, 'published', family, as_of, jsonb_build_object('batch_id', batch_id)
from nightshift.published order by published_at;

insert into nightshift.signals
    (batch_id, model_id, version_id, signal, feature, value, level, row_count, watched_at)
select b.batch_id, v.model_id, v.version_id, 'drift', feature, x.drift,
       case when x.drift > 0.999 then 'alert' else 'ok' end, 1400, b.written_at
from nightshift.batches b
join nightshift.models m using (family)
join nightshift.versions v using (model_id)
cross join (values ('distance'), ('carrier'), ('origin')) t (feature)
cross join lateral (select random() + 0 * v.model_id as drift) x
where b.as_of > {LAST} - interval '30 days';

alter table nightshift.decisions enable trigger chain;
"""


def fill(server: Postgres, name: str) -> None:
    """Write a year of history into a migrated database."""
    with session(server.url(name)) as connection:
        connection.exec_driver_sql(_HISTORY)
        connection.exec_driver_sql("vacuum analyze")
