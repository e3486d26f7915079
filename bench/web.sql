-- What 365 nights of 5,000 models in ten families leave behind, for bench/web.py.

-- name: before
-- Neither the chain of decisions nor references are checked row by row: it would take half an hour.
set session_replication_role = replica;
select setseed(0.5);

insert into nightshift.models (family, name, created_at)
select 'family_' || mod(n, 10), 'member-' || to_char(n, 'FM00000'), timestamptz '2025-11-03 02:00+00'
from generate_series(1, 5000) n;

insert into nightshift.memberships (model_id, as_of, state, group_name)
select model_id, created_at, 'active', 'group ' || chr(65 + mod(model_id / 10, 8))
from nightshift.models;

insert into nightshift.decisions
    (model_id, kind, rule, reason, as_of, inputs, subject, decided_at, seq, prev_hash, hash)
select model_id, 'retrain', 'on_demand', 'the first models', created_at, '{}', 'asked', created_at, model_id, '', ''
from nightshift.models;

insert into nightshift.versions (model_id, number, artifact_hash, signature, manifest, decision_id, trained_at)
select model_id, 1, repeat('0', 64), '', '{"rows": 1000}', decision_id, as_of
from nightshift.decisions;

insert into nightshift.promotions (model_id, seq, version_id, decision_id, effective_from, promoted_at)
select model_id, 1, version_id, decision_id, trained_at, trained_at
from nightshift.versions;

-- name: night
-- One night, as it is written. One model in a hundred sinks in the last week.
with night as (
    select timestamptz '2025-11-03 02:00+00' + make_interval(days => :n) as as_of
), told as (
    select as_of, jsonb_agg(jsonb_build_object(
        'as_of', as_of - make_interval(days => d), 'predictions', 200, 'labels', 197, 'value', 0.7812, 'error', 0.0213)) as nights
    from night, generate_series(3, 9) d group by as_of
), valued as (
    select v.model_id, v.version_id, t.as_of, t.nights,
           0.78 + 0.02 * random() - case when mod(v.model_id, 100) = 7 and :n > 358 then 0.12 else 0 end as value
    from nightshift.versions v cross join told t
)
insert into nightshift.measurements
    (model_id, metric, as_of, window_start, window_end, state, value, low, high, predictions, labels,
     threshold, measured_at, version_id, method, reference, nights)
select model_id, 'roc_auc', as_of + interval '4 hours', as_of - interval '9 days', as_of - interval '2 days',
       case when value + 0.02 < 0.7 then 'breached' else 'measured' end, value, value - 0.02, value + 0.02, 1400, 1380,
       0.7, as_of + interval '4 hours', case when twin then null else version_id end, 'DeLong (1988)', 0.8,
       case when twin then '[]' else nights end
from valued cross join (values (false), (true)) t (twin);

insert into nightshift.decisions
    (model_id, kind, rule, reason, as_of, inputs, subject, decided_at, seq, prev_hash, hash)
select model_id, case when state = 'breached' then 'defer' else 'keep' end,
       case when state = 'breached' then 'budget' else 'healthy' end,
       'roc_auc ' || round(value::numeric, 4) || ' (' || round(low::numeric, 4) || ' to ' || round(high::numeric, 4)
       || ') on 1,380 labels, against the threshold 0.7',
       as_of, jsonb_build_object('measurement', measurement_id, 'cooldown', null, 'last_retrain', null),
       'monitoring ' || as_of, as_of, 5000 + measurement_id, '', md5(measurement_id::text)
from nightshift.measurements
where version_id is not null and as_of = timestamptz '2025-11-03 06:00+00' + make_interval(days => :n);

insert into nightshift.snapshots
    (family, as_of, revision, content_hash, row_count, dropped_rows, query_hash, taken_at)
select 'family_' || f, as_of, 1, repeat('0', 64), 100000, 0, '', as_of + interval '1 minute'
from generate_series(0, 9) f,
     (select timestamptz '2025-11-03 02:00+00' + make_interval(days => :n) as as_of) night;

insert into nightshift.batches
    (family, as_of, snapshot_id, version_ids, row_count, state, started_at, written_at)
select family, as_of, snapshot_id, '{}', row_count, 'written', taken_at, taken_at + interval '1 minute'
from nightshift.snapshots
where as_of = timestamptz '2025-11-03 02:00+00' + make_interval(days => :n);

insert into nightshift.published (family, as_of, batch_id, published_at)
select family, as_of, batch_id, written_at from nightshift.batches
where as_of = timestamptz '2025-11-03 02:00+00' + make_interval(days => :n);

insert into nightshift.events (happened_at, code, family, as_of, detail)
select published_at, 'published', family, as_of, jsonb_build_object('batch_id', batch_id)
from nightshift.published
where as_of = timestamptz '2025-11-03 02:00+00' + make_interval(days => :n);

insert into nightshift.signals
    (batch_id, model_id, version_id, signal, feature, value, level, row_count, watched_at)
select b.batch_id, v.model_id, v.version_id, 'drift', feature, random(),
       case when mod(v.model_id, 500) = 3 then 'alert' else 'ok' end, 1400, b.written_at
from nightshift.batches b
join nightshift.models m using (family)
join nightshift.versions v using (model_id)
cross join (values ('distance'), ('carrier'), ('origin')) t (feature)
where b.as_of = timestamptz '2025-11-03 02:00+00' + make_interval(days => :n) and :n > 335;

-- name: after
vacuum analyze;
