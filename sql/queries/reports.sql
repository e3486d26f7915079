-- name: fleet
-- Every active model of every family: who serves, the last decisive measurement, the last decision, the signals of its last night.
with last_night as (
    select f.family, p.as_of, p.batch_id
    from (select distinct family from nightshift.models) f
    left join lateral nightshift.last_night(f.family) p on true
),
-- What the last run about a later night said, unless a decision was made about it since.
refused as (
    select distinct on (e.family) e.family, coalesce(e.detail ->> 'reason', e.code) as failure
    from last_night l
    join nightshift.events e on e.family = l.family and (l.as_of is null or e.as_of > l.as_of)
    where e.code in ('snapshot_rejected', 'snapshot', 'source', 'scoring', 'labels', 'config', 'registry',
                     'no_champion', 'artifact_refused', 'libraries_differ', 'error')
      and e.as_of is not null
      and not exists (
          select from nightshift.models o
          join nightshift.decisions d using (model_id)
          where o.family = e.family and d.as_of >= e.as_of and d.decided_at >= e.happened_at)
    order by e.family, e.event_id desc
),
waiting as (
    select v.model_id, max(a.approval_id) as approval_id
    from nightshift.open_approvals() a
    join nightshift.comparisons c using (comparison_id)
    join nightshift.versions v on v.version_id = c.challenger_version
    group by v.model_id
),
in_shadow as (
    select distinct on (s.model_id) s.model_id, v.number
    from nightshift.open_shadows() s
    join nightshift.versions v using (version_id)
    order by s.model_id, s.shadow_id desc
),
loud as (
    select s.model_id, count(*) as alerts
    from last_night l
    join nightshift.signals s using (batch_id)
    where s.level = 'alert'
    group by s.model_id
)
select m.model_id, m.family, m.name as model, n.group_name as group,
       c.number as version, c.effective_from as since, c.kind = 'rollback' and c.promoted_at >= d.as_of as rolled_back,
       h.number as shadow,
       x.metric, x.state as measured, x.value, x.low, x.high, x.threshold, x.reference,
       x.labels, x.predictions, x.as_of as measured_as_of,
       d.kind as decision, d.rule, d.reason, d.as_of as decided_as_of,
       coalesce(w.alerts, 0) as alerts, q.approval_id as waiting,
       coalesce(r.failure, case d.kind when 'failed' then d.reason when 'retrain' then t.failure end) as failure
from nightshift.models m
join lateral nightshift.membership_at(m.model_id, 'infinity') n on n.state = 'active'
left join lateral (
    select v.number, p.effective_from, p.promoted_at, by.kind
    from nightshift.promotion_at(m.model_id, 'infinity') p
    join nightshift.versions v using (version_id)
    join nightshift.decisions by on by.decision_id = p.decision_id
) c on true
left join lateral (
    (select metric, state, value, low, high, threshold, reference, labels, predictions, as_of
     from nightshift.decisive_measurements()
     where model_id = m.model_id and version_id is not null
     order by as_of desc limit 1)
    union all
    (select metric, state, value, low, high, threshold, reference, labels, predictions, as_of
     from nightshift.decisive_measurements()
     where model_id = m.model_id and version_id is null and c.number is null
     order by as_of desc limit 1)
    limit 1
) x on true
left join lateral (
    select decision_id, kind, rule, reason, as_of, decided_at from nightshift.decisions
    where model_id = m.model_id order by as_of desc, decision_id desc limit 1
) d on true
left join lateral (
    select e.detail ->> 'reason' as failure
    from nightshift.events e
    where d.kind = 'retrain' and e.family = m.family and e.as_of = d.as_of and e.code = 'training'
      and e.happened_at >= d.decided_at
      and (m.name = m.family or starts_with(e.detail ->> 'reason', m.name || ':'))
      and not exists (select from nightshift.versions v where v.decision_id = d.decision_id)
    order by e.event_id desc limit 1
) t on true
left join refused r on r.family = m.family
left join waiting q on q.model_id = m.model_id
left join in_shadow h on h.model_id = m.model_id
left join loud w on w.model_id = m.model_id
where cast(:family as text) is null or m.family = :family
order by m.family, m.name;

-- name: last_nights
-- The last published night of each family, whether an expectation of it failed, and how many rows were left out.
select f.family, p.as_of, b.row_count as rows, p.published_at,
       coalesce((select v.verdict = 'warned' from nightshift.latest_validation(b.snapshot_id) v), false) as warned,
       coalesce((select sum((told ->> 'rows')::bigint)::bigint from nightshift.snapshots s, jsonb_each(s.left_out) o (reason, told)
                 where s.snapshot_id = b.snapshot_id), 0) as left_out
from (select distinct family from nightshift.models) f
join lateral nightshift.last_night(f.family) p on true
join nightshift.batches b on b.batch_id = p.batch_id
order by f.family;

-- name: figures
-- The night of a family that readers see, and what its last monitoring came to.
with seen as (
    select p.as_of, b.row_count as rows
    from nightshift.last_night(:family) p join nightshift.batches b using (batch_id)
),
last as (
    select max(d.as_of) as as_of
    from nightshift.models m
    join lateral (
        select as_of from nightshift.decisions
        where model_id = m.model_id and about = 'monitor' order by as_of desc limit 1
    ) d on true
    where m.family = :family
),
decided as (
    select count(*) filter (where d.alarming) as breaches, count(*) filter (where d.kind = 'retrain') as retrains
    from last
    join nightshift.models m on m.family = :family
    join nightshift.decisions d on d.model_id = m.model_id and d.as_of = last.as_of and d.about = 'monitor'
),
measured as (
    select sum(x.labels) as labels, sum(x.predictions) as predictions
    from last
    join nightshift.models m on m.family = :family
    join nightshift.decisive_measurements() x on x.as_of = last.as_of and x.model_id = m.model_id
    where x.version_id is null
)
select seen.as_of, seen.rows,
       case when last.as_of is not null then decided.breaches end as breaches,
       case when last.as_of is not null then decided.retrains end as retrains,
       cast(measured.labels as double precision) as labels, cast(measured.predictions as double precision) as predictions
from last cross join decided cross join measured left join seen on true;

-- name: frozen
-- A snapshot, and the latest verdict on it, check by check.
select s.family, s.as_of, s.content_hash, s.row_count as rows, v.checks
from nightshift.snapshots s
left join nightshift.latest_validation(s.snapshot_id) v on true
where s.snapshot_id = :snapshot_id;

-- name: shown
-- A batch, with the snapshot that it was made of.
select b.batch_id, b.row_count as rows, b.snapshot_id from nightshift.batches b where b.batch_id = :batch_id;

-- name: ingredients
-- What the champions of active models were made of: files of code by their hashes, libraries, Python; equal ones once.
select distinct m.family, v.manifest #> '{code,files}' as files, v.manifest -> 'libraries' as libraries,
       v.manifest ->> 'python' as python
from nightshift.models m
join lateral nightshift.membership_at(m.model_id, 'infinity') n on n.state = 'active'
join lateral nightshift.promotion_at(m.model_id, 'infinity') p on true
join nightshift.versions v on v.version_id = p.version_id
where (cast(:family as text) is null or m.family = :family)
  and (cast(:model_id as int) is null or m.model_id = :model_id)
order by m.family;

-- name: find_models
-- The models of this name, in any family or in one.
select model_id, family, name as model
from nightshift.models
where name = :model and (cast(:family as text) is null or family = :family)
order by family;

-- name: names
-- Every model there ever was.
select family, name as model from nightshift.models order by family, name;

-- name: decision
-- What was last decided about a model by a moment, verdicts on challengers aside.
select decision_id, kind, rule, reason, as_of, inputs, subject, decided_at
from nightshift.decisions
where model_id = :model_id and as_of <= cast(:until as timestamptz) and kind not in ('promote', 'reject', 'failed')
  and about not in ('comparison', 'shadow', 'probation')
order by as_of desc, decision_id desc
limit 1;

-- name: collection
-- What the source gave when labels were last collected by a moment.
select as_of, found, added, duplicates, corrections, contradictions, late
from nightshift.label_collections
where family = :family and as_of <= cast(:as_of as timestamptz)
order by as_of desc, collection_id desc
limit 1;

-- name: measurements
-- The measurements of a model at a moment, the decisive one of the serving version first.
select x.metric, x.as_of, x.window_start, x.window_end, x.state, x.value, x.low, x.high, x.predictions,
       x.labels, x.threshold, x.version_id, v.number as version, x.slice, x.basis, x.method, x.reference,
       x.decisive, x.nights, x.remark
from nightshift.measurements x
left join nightshift.versions v using (version_id)
where x.model_id = :model_id and x.as_of = cast(:as_of as timestamptz) and x.basis = 'realized'
order by x.decisive desc, x.slice, x.version_id nulls last, x.metric;

-- name: estimate
-- The latest estimate without labels by a moment.
select metric, as_of, value, low, high, predictions
from nightshift.measurements
where model_id = :model_id and as_of <= cast(:as_of as timestamptz) and basis = 'estimated' and value is not null
order by as_of desc
limit 1;

-- name: signals
-- What stood out in the latest watched night by a moment, the worst first.
select b.as_of, s.signal, s.feature, s.value, s.level
from nightshift.signals s
join nightshift.batches b using (batch_id)
where s.model_id = :model_id
  and b.as_of = (
      select max(b.as_of)
      from nightshift.published p join nightshift.batches b using (batch_id)
      join nightshift.signals s using (batch_id)
      where p.family = :family and s.model_id = :model_id and b.as_of <= cast(:as_of as timestamptz))
order by s.level = 'alert' desc, s.level = 'warn' desc, s.value desc, s.signal, s.feature;

-- name: retrain_outcome
-- What came of a decision to retrain: the version, its comparison, the verdict, the answer of a person, its refit, the promotion.
select v.number as version, v.trained_at, v.manifest -> 'training' as training,
       c.comparison_id, d.kind as verdict, d.reason as verdict_reason, a.approval_id,
       answered.kind as answer, answered.reason as answer_reason, refit.number as refit, p.effective_from
from (select cast(:decision_id as int) as decision_id) request
left join nightshift.comparisons c using (decision_id)
join lateral (
    select number, trained_at, manifest from nightshift.versions
    where decision_id = request.decision_id
    order by coalesce(version_id = c.challenger_version, false) desc, made_as = 'refit', number
    limit 1
) v on true
left join nightshift.versions refit on refit.decision_id = request.decision_id and refit.made_as = 'refit'
left join nightshift.decisions d on d.about = 'comparison' and d.about_id = c.comparison_id
left join nightshift.approvals a on a.comparison_id = c.comparison_id
left join nightshift.answers w using (approval_id)
left join nightshift.decisions answered on answered.decision_id = w.decision_id
left join nightshift.promotions p on p.decision_id in (d.decision_id, w.decision_id);

-- name: failure
-- Why a decision to retrain came to nothing.
select f.reason
from nightshift.decisions d
join nightshift.decisions f on f.model_id = d.model_id and f.about = 'training' and f.about_id = d.decision_id
where d.decision_id = :decision_id;

-- name: shadow
-- The shadow that a decision to retrain led to: until when, what it has come to, how it ended.
select v.number as version, s.ends, t.nights, t.evidence, t.needed, e.kind, e.reason
from nightshift.comparisons c
join nightshift.shadows s using (comparison_id)
join nightshift.versions v on v.version_id = s.version_id
left join nightshift.decisions e on e.about = 'shadow' and e.about_id = s.shadow_id
left join lateral (
    select nights, evidence, needed from nightshift.trials
    where model_id = s.model_id and kind = 'shadow' and newer = s.version_id and as_of >= s.starts
    order by as_of desc limit 1
) t on true
where c.decision_id = :decision_id;

-- name: history
-- Everything that was ever decided about a model, and what serves since, oldest first.
select d.as_of, d.decision_id, d.kind, d.rule, d.reason, d.decided_at,
       v.number as version, p.effective_from
from nightshift.decisions d
left join nightshift.promotions p using (decision_id)
left join nightshift.versions v on v.version_id = p.version_id
where d.model_id = :model_id
order by d.as_of, d.decision_id;

-- name: decisive_measurements
-- A model's decisive measurements of the versions that served, oldest first.
select x.as_of, x.metric, x.state, x.value, x.low, x.high, x.threshold, x.reference, x.labels, x.predictions,
       v.number as version
from nightshift.decisive_measurements() x
join nightshift.versions v using (version_id)
where x.model_id = :model_id
order by x.as_of;

-- name: chain
-- A stretch of the chain of decisions, as it is hashed.
select seq, decision_id, model_id, kind, rule, reason,
       to_char(as_of at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') as as_of,
       cast(inputs as text) as inputs, subject,
       to_char(decided_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') as decided_at,
       hash_rule, about, about_id, cast(to_jsonb(severity) as text) as severity, alarming,
       to_char(falling_since at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') as falling_since,
       prev_hash, hash
from nightshift.decisions
where seq > :after
order by seq
limit :count;
