-- name: promotions
-- The champions of a model, the latest first.
select v.number as version, d.kind, d.reason, d.decision_id, v.artifact_hash as artifact,
       p.effective_from, p.promoted_at
from nightshift.promotions p
join nightshift.models m using (model_id)
join nightshift.versions v on v.version_id = p.version_id
join nightshift.decisions d on d.decision_id = p.decision_id
where m.family = :family and m.name = :model
order by p.seq desc;

-- name: measurements
-- A page of measurements, those recorded last first.
select x.measurement_id, m.family, m.name as model, x.metric, x.as_of, x.window_start, x.window_end,
       x.state, x.value, x.low, x.high, x.threshold, x.reference, x.predictions, x.labels,
       coalesce(x.labels / nullif(cast(x.predictions as double precision), 0), 0) as coverage,
       x.basis, v.number as version, x.slice, x.method, x.remark, x.decisive, x.measured_at
from nightshift.measurements x
join nightshift.models m using (model_id)
left join nightshift.versions v using (version_id)
where m.family = any(cast(:families as text[]))
  and (cast(:model as text) is null or m.name = :model)
  and (cast(:metric as text) is null or x.metric = :metric)
  and (cast(:state as text) is null or x.state = :state)
  and (cast(:basis as text) is null or x.basis = :basis)
  and (cast(:since as timestamptz) is null or x.as_of >= :since)
  and (cast(:until as timestamptz) is null or x.as_of <= :until)
  and (cast(:after as int) is null or x.measurement_id < :after)
order by x.measurement_id desc
limit :count;

-- name: decisions
-- A page of decisions, the last first.
select d.decision_id, m.family, m.name as model, d.kind, d.rule, d.reason, d.as_of, d.decided_at
from nightshift.decisions d
join nightshift.models m using (model_id)
where m.family = any(cast(:families as text[]))
  and (cast(:model as text) is null or m.name = :model)
  and (cast(:kind as text) is null or d.kind = :kind)
  and (cast(:rule as text) is null or d.rule = :rule)
  and (cast(:since as timestamptz) is null or d.as_of >= :since)
  and (cast(:until as timestamptz) is null or d.as_of <= :until)
  and (cast(:after as int) is null or d.decision_id < :after)
order by d.decision_id desc
limit :count;

-- name: decision
-- One decision with its inputs and its place in the chain.
select d.decision_id, m.family, m.name as model, d.kind, d.rule, d.reason, d.as_of, d.decided_at,
       d.subject, d.inputs, d.seq, d.prev_hash, d.hash
from nightshift.decisions d
join nightshift.models m using (model_id)
where d.decision_id = :decision_id and m.family = any(cast(:families as text[]));

-- name: nights
-- A page of nights, the last first: the latest snapshot of each, its verdict, and the batch that readers see.
select n.family, n.as_of, n.state, n.snapshot, n.snapshot_rows, n.dropped_rows, n.taken_at, n.verdict,
       n.batch_id, n.rows, n.skipped_rows, n.published_at, n.snapshot_id, n.left_out
from (
    select s.family, s.as_of, s.snapshot_id, s.content_hash as snapshot, s.row_count as snapshot_rows,
           s.dropped_rows, s.left_out, s.taken_at, judged.verdict, p.published_at,
           b.batch_id, b.row_count as rows, b.skipped_rows,
           case when p.batch_id is not null then 'published'
                when judged.verdict = 'rejected' then 'rejected'
                else 'unpublished' end as state
    from nightshift.latest_snapshots() s
    left join lateral nightshift.latest_validation(s.snapshot_id) judged on true
    left join nightshift.published p on p.family = s.family and p.as_of = s.as_of
    left join nightshift.batches b on b.batch_id = p.batch_id
    where s.family = any(cast(:families as text[]))
      and (cast(:since as timestamptz) is null or s.as_of >= :since)
      and (cast(:until as timestamptz) is null or s.as_of <= :until)
      and (cast(:after_as_of as timestamptz) is null
           or (s.as_of, s.family) < (cast(:after_as_of as timestamptz), cast(:after_family as text)))
) n
where cast(:state as text) is null or n.state = :state
order by n.as_of desc, n.family desc
limit :count;

-- name: checks
-- What the latest validation of a snapshot found, check by check.
select checks from nightshift.latest_validation(:snapshot_id);

-- name: night_models
-- The models of a published batch, and who scored their rows.
select m.name as model, v.number as version,
       coalesce(v.model_id <> n.model_id, false) as fallback, n.row_count as rows
from nightshift.batch_models n
join nightshift.models m using (model_id)
left join nightshift.versions v on v.version_id = n.version_id
where n.batch_id = :batch_id
order by m.name;

-- name: prediction
-- What readers see about an entity: its prediction in the latest night by a moment.
select entity_id, family, model, as_of, score, label, flags, model_version, snapshot, batch_id, published_at
from public.predictions
where entity_id = :entity_id and family = :family and model = :model
  and (cast(:until as timestamptz) is null or as_of <= :until)
order by as_of desc
limit 1;
