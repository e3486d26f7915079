-- name: newest
-- What changes whenever something that the fleet shows does.
select (select max(event_id) from nightshift.events) as event_id,
       (select max(decision_id) from nightshift.decisions) as decision_id,
       (select max(approval_id) from nightshift.approvals) as approval_id,
       (select max(model_id) from nightshift.models) as model_id,
       (select max(measurement_id) from nightshift.measurements) as measurement_id,
       (select max(watched_at) from nightshift.signals s
        where s.batch_id = (select max(batch_id) from nightshift.published)) as watched_at;

-- name: sparks
-- The last decisive measurements of every model, oldest first; null where there was no value.
select m.family, m.name as model, s.points
from nightshift.models m
cross join lateral (
    select array_agg(value order by as_of) as points
    from (
        select as_of, value from nightshift.decisive_measurements()
        where model_id = m.model_id and version_id is not null
        order by as_of desc
        limit :nights
    ) last
) s
where s.points is not null and (cast(:family as text) is null or m.family = :family);

-- name: cost
-- What a family's work came to since a moment: nights, rows and seconds of scoring, versions trained, rows learnt from.
select f.family, coalesce(b.nights, 0) as nights, coalesce(b.rows, 0) as rows, coalesce(b.seconds, 0) as seconds,
       coalesce(v.versions, 0) as versions, coalesce(v.learnt, 0) as learnt
from (select distinct family from nightshift.models) f
left join (
    select p.family, count(*) as nights, sum(b.row_count) as rows,
           cast(sum(extract(epoch from b.written_at - b.started_at)) as double precision) as seconds
    from nightshift.published p
    join nightshift.batches b using (batch_id)
    where p.as_of > cast(:since as timestamptz)
    group by p.family
) b on b.family = f.family
left join (
    select m.family, count(*) as versions, sum(cast(v.manifest ->> 'rows' as bigint)) as learnt
    from nightshift.versions v
    join nightshift.models m using (model_id)
    where v.trained_at > cast(:since as timestamptz)
    group by m.family
) v on v.family = f.family
order by f.family;

-- name: nights
-- The latest nights of a family: rows, verdict, when published, what was refused last.
select s.as_of, s.row_count as rows, v.verdict, p.published_at, e.code, e.reason
from (
    select as_of, snapshot_id, row_count from nightshift.latest_snapshots()
    where family = :family
    order by as_of desc
    limit :nights
) s
left join lateral nightshift.latest_validation(s.snapshot_id) v on true
left join nightshift.published p on p.family = :family and p.as_of = s.as_of
left join lateral (
    select code, detail ->> 'reason' as reason from nightshift.events
    where family = :family and as_of = s.as_of and detail ? 'reason'
    order by event_id desc limit 1
) e on true
order by s.as_of desc;

-- name: model
-- A model, its group, whether it is active, and the version that serves with what it was worth when promoted.
select m.model_id, m.family, m.name as model, n.state, n.group_name as group,
       v.number as version, c.version_id, c.effective_from, c.reference
from nightshift.models m
left join lateral nightshift.membership_at(m.model_id, 'infinity') n on true
left join lateral nightshift.promotion_at(m.model_id, 'infinity') c on true
left join nightshift.versions v on v.version_id = c.version_id
where m.family = :family and m.name = :model;

-- name: measurements
-- Every measurement of a model over all rows since a moment, oldest first; slices are aside.
select x.as_of, x.metric, x.basis, v.number as version, x.decisive, x.state, x.value, x.low, x.high,
       x.threshold, x.reference, x.predictions, x.labels, x.window_start, x.window_end, x.method, x.remark,
       (select count(*) from jsonb_array_elements(x.nights) n
        where cast(n ->> 'labels' as int) > 0 and n ->> 'value' is null) as nights_without
from nightshift.measurements x
left join nightshift.versions v using (version_id)
where x.model_id = :model_id and x.slice = '' and x.as_of > cast(:since as timestamptz)
order by x.as_of, x.decisive desc, x.metric, x.basis desc, x.version_id nulls last;

-- name: slices
-- The latest measurement of a model by slice, the lowest first.
select x.as_of, x.slice, x.metric, x.state, x.value, x.low, x.high, x.predictions, x.labels
from nightshift.measurements x
where x.model_id = :model_id and x.slice <> '' and x.decisive
  and x.as_of = (select max(as_of) from nightshift.measurements where model_id = :model_id and basis = 'realized')
order by x.value nulls last, x.slice;

-- name: signals
-- What was watched of a model in its latest published nights, oldest first.
select p.as_of, s.signal, s.feature, s.value, s.level, s.row_count as rows, v.number as version
from nightshift.signals s
join nightshift.versions v using (version_id)
join (
    select batch_id, as_of from nightshift.published
    where family = :family order by as_of desc limit :nights
) p using (batch_id)
where s.model_id = :model_id
order by p.as_of, s.signal, s.feature;

-- name: changes
-- Retrains, promotions and rollbacks of a model, with the version that serves since, oldest first.
select d.decision_id, d.as_of, d.kind, d.rule, v.number as version, p.effective_from
from nightshift.decisions d
left join nightshift.promotions p using (decision_id)
left join nightshift.versions v on v.version_id = p.version_id
where d.model_id = :model_id and (d.kind = 'retrain' or p.decision_id is not null)
order by d.as_of, d.decision_id;

-- name: versions
-- The versions of a model, the latest first: what each learnt from, and when it served.
select v.number, v.trained_at, v.artifact_hash, v.decision_id, g.collected_at,
       v.manifest -> 'training' as training, cast(v.manifest ->> 'rows' as bigint) as rows,
       (select min(p.effective_from) from nightshift.promotions p where p.version_id = v.version_id) as serves_from
from nightshift.versions v
left join nightshift.collected_artifacts g using (artifact_hash)
where v.model_id = :model_id
order by v.number desc;

-- name: version
-- One version of a model with its manifest.
select v.version_id, v.number, v.trained_at, v.artifact_hash, v.decision_id, v.manifest, encode(v.signature, 'hex') as signature,
       g.collected_at
from nightshift.versions v
left join nightshift.collected_artifacts g using (artifact_hash)
where v.model_id = :model_id and v.number = :number;

-- name: latest_batch
-- The last published night in which a model has rows.
select p.as_of, p.batch_id, s.row_count as rows
from nightshift.batch_models s
join nightshift.published p using (batch_id)
where s.model_id = :model_id and s.version_id is not null
order by p.as_of desc
limit 1;

-- name: scores
-- How many rows of a model in a batch have a score from each edge to the next; 0 lies below the first.
select width_bucket(r.score, cast(:edges as double precision[])) as place, count(*) as rows
from nightshift.prediction_rows r
join nightshift.versions v using (version_id)
where r.batch_id = :batch_id and r.role = 0 and coalesce(r.model_id, v.model_id) = :model_id
group by place
order by place;

-- name: night
-- The snapshots of a night, each with its validations, the latest first.
select s.snapshot_id, s.revision, s.content_hash, s.row_count, s.dropped_rows, s.left_out, s.query_hash, s.taken_at,
       v.validation_id, v.verdict, v.checks, v.validated_at
from nightshift.snapshots s
left join nightshift.validations v using (snapshot_id)
where s.family = :family and s.as_of = cast(:as_of as timestamptz)
order by s.revision desc, v.validation_id desc;

-- name: batches
-- The batches of a night, the published one among them, oldest first.
select b.batch_id, b.state, b.row_count, b.skipped_rows, b.started_at, b.written_at, b.purged_at,
       p.published_at, s.content_hash
from nightshift.batches b
join nightshift.snapshots s using (snapshot_id)
left join nightshift.published p using (batch_id)
where b.family = :family and b.as_of = cast(:as_of as timestamptz)
order by b.batch_id;

-- name: batch_models
-- Whose rows the published batch of a night holds, and which version scored them.
select m.name as model, v.number as version, s.row_count as rows,
       (select count(*) from nightshift.signals w
        where w.batch_id = s.batch_id and w.model_id = s.model_id and w.level = 'alert') as alerts
from nightshift.published p
join nightshift.batch_models s using (batch_id)
join nightshift.models m using (model_id)
left join nightshift.versions v using (version_id)
where p.family = :family and p.as_of = cast(:as_of as timestamptz)
order by alerts desc, m.name;

-- name: trail
-- What the audit trail says of a night, oldest first.
select event_id, happened_at, code, detail
from nightshift.events
where family = :family and as_of = cast(:as_of as timestamptz)
order by event_id;

-- name: neighbour_nights
-- The nights of a family just before and just after one.
select (select max(as_of) from nightshift.snapshots where family = :family and as_of < cast(:as_of as timestamptz)) as before,
       (select min(as_of) from nightshift.snapshots where family = :family and as_of > cast(:as_of as timestamptz)) as after;

-- name: decisions_between
-- What was decided between two moments, keeping aside.
select d.decision_id, m.name as model, d.kind, d.rule, d.reason
from nightshift.decisions d
join nightshift.models m using (model_id)
where m.family = :family and d.as_of >= cast(:since as timestamptz) and d.as_of < cast(:until as timestamptz)
  and d.kind <> 'keep'
order by d.decision_id
limit :count;

-- name: decision
-- One decision and the model it is about.
select d.decision_id, d.model_id, m.family, m.name as model, d.kind, d.rule, d.reason, d.as_of, d.inputs,
       d.subject, d.decided_at, d.seq, d.hash
from nightshift.decisions d
join nightshift.models m using (model_id)
where d.decision_id = :decision_id;

-- name: comparison
-- The comparison that a decision asked for, or that it concludes, with the approval that was asked and the answer.
select c.comparison_id, c.decision_id as asked_by, c.metric, c.holdout_start, c.holdout_end, c.row_count,
       c.champion_value, c.challenger_value, c.difference, c.low, c.confidence, c.candidates, c.slices,
       c.border_cases, c.unscorable, c.perfect, c.baseline, c.compared_at,
       older.number as champion, newer.number as challenger,
       a.approval_id, a.evidence, a.asked_at, w.answer, w.said_by, w.answered_at, w.decision_id as answered_by
from nightshift.comparisons c
join nightshift.versions newer on newer.version_id = c.challenger_version
left join nightshift.versions older on older.version_id = c.champion_version
left join nightshift.approvals a using (comparison_id)
left join nightshift.answers w using (approval_id)
where c.decision_id = :decision_id
   or w.decision_id = :decision_id
   or exists (select from nightshift.decisions d
              where d.decision_id = :decision_id and d.about = 'comparison' and d.about_id = c.comparison_id)
order by c.comparison_id desc
limit 1;
