-- name: outcomes
-- Published predictions of the nights in (start, end], each with its latest label known by a moment.
select r.entity_id, r.as_of, r.model_id, r.version_id,
       v.model_id as scored_by, r.score, r.label, r.value
from nightshift.labelled_rows(:family, cast(:start as timestamptz), cast(:end as timestamptz), cast(:known_by as timestamptz)) r
join nightshift.versions v using (version_id)
where r.role = 0
order by r.as_of, r.entity_id;

-- name: scores
-- What published nights in (start, end] were scored as, and by which model's version; their truth is not asked.
select r.model_id, v.model_id as scored_by, r.score, r.label = '1' as positive
from nightshift.published_rows(:family, cast(:start as timestamptz), cast(:end as timestamptz)) r
join nightshift.versions v using (version_id)
where r.role = 0;

-- name: snapshots
-- The snapshots behind the published nights in (start, end], oldest first.
select p.as_of, s.content_hash
from nightshift.published p
join nightshift.batches b using (batch_id)
join nightshift.snapshots s using (snapshot_id)
where p.family = :family
  and p.as_of > cast(:start as timestamptz)
  and p.as_of <= cast(:end as timestamptz)
order by p.as_of;

-- name: append
-- Store measurements of a moment, an array of objects; of each the first one stays.
insert into nightshift.measurements
    (model_id, metric, as_of, window_start, window_end, state, value, low, high, predictions, labels,
     threshold, version_id, slice, basis, method, reference, decisive, nights, remark,
     matured_predictions, matured_labels, measured_at)
select model_id, metric, as_of, window_start, window_end, state, value, low, high, predictions, labels,
       threshold, version_id, slice, basis, method, reference, decisive, nights, remark,
       matured_predictions, matured_labels, cast(:measured_at as timestamptz)
from jsonb_populate_recordset(null::nightshift.measurements, cast(:measurements as jsonb))
on conflict (model_id, as_of, metric, basis, version_id, slice) do nothing;

-- name: find_measurements
-- The realized measurements of a moment over all rows of a version (null: of all versions), in the order asked for.
select x.measurement_id
from unnest(cast(:model_ids as int[]), cast(:version_ids as int[])) with ordinality asked (model_id, version_id, place)
join nightshift.measurements x
  on x.model_id = asked.model_id and x.version_id is not distinct from asked.version_id
where x.metric = :metric and x.as_of = cast(:as_of as timestamptz) and x.basis = 'realized' and x.slice = ''
order by asked.place;

-- name: recent
-- The latest decisive measurements of every model of a family up to a moment, latest first.
select x.model_id, x.metric, x.as_of, x.window_start, x.window_end, x.state, x.value, x.low, x.high,
       x.predictions, x.labels, x.threshold, x.version_id, x.slice, x.basis, x.method, x.reference, x.decisive, x.nights,
       x.remark, x.matured_predictions, x.matured_labels
from nightshift.models m
join lateral (
    select *
    from nightshift.measurements
    where model_id = m.model_id and metric = :metric and as_of <= cast(:as_of as timestamptz)
      and basis = 'realized' and slice = '' and version_id is not null
    order by as_of desc
    limit :count
) x on true
where m.family = :family
order by x.model_id, x.as_of desc;

-- name: matured
-- How many predictions matured between two monitorings in (since, as_of], and how many of them had a label: by model and slice.
select m.name as model, x.slice, x.as_of, x.matured_predictions as predictions, x.matured_labels as labels
from nightshift.models m
join nightshift.measurements x using (model_id)
where m.family = :family and x.metric = :metric
  and x.as_of > cast(:since as timestamptz) and x.as_of <= cast(:as_of as timestamptz)
  and x.basis = 'realized' and x.version_id is null and x.matured_predictions is not null
order by x.as_of;

-- name: append_signals
-- Store the signals of a night, an array of objects; of each the first one stays.
insert into nightshift.signals
    (batch_id, model_id, version_id, signal, feature, value, level, row_count, watched_at)
select :batch_id, model_id, version_id, signal, feature, value, level, row_count, cast(:watched_at as timestamptz)
from jsonb_populate_recordset(null::nightshift.signals, cast(:signals as jsonb))
on conflict (batch_id, model_id, signal, feature) do nothing;

-- name: signals
-- The worst level of each signal of each model in the latest published nights, latest first.
select s.model_id, s.signal,
       case max(case s.level when 'alert' then 2 when 'warn' then 1 else 0 end)
           when 2 then 'alert' when 1 then 'warn' else 'ok' end as level
from (
    select as_of, batch_id from nightshift.published
    where family = :family and as_of <= cast(:as_of as timestamptz)
    order by as_of desc
    limit :nights
) p
join nightshift.signals s using (batch_id)
group by s.model_id, s.signal, p.as_of
order by s.model_id, s.signal, p.as_of desc;

-- name: measured_families
-- The families with a measurement at a moment.
select distinct m.family
from nightshift.measurements x
join nightshift.models m using (model_id)
where x.as_of = :as_of and x.basis = 'realized'
order by m.family;

-- name: nights
-- The nights of some versions that were measured in (since, as_of], oldest first, each as its latest measurement saw it.
select model_id, jsonb_agg(night order by as_of) as nights
from (
    select distinct on (x.model_id, night.value ->> 'as_of')
           x.model_id, night.value as night, cast(night.value ->> 'as_of' as timestamptz) as as_of
    from nightshift.measurements x
    cross join lateral jsonb_array_elements(x.nights) night
    where x.version_id = any(cast(:versions as int[])) and x.metric = :metric
      and x.basis = 'realized' and x.slice = ''
      and x.as_of > cast(:since as timestamptz) and x.as_of <= cast(:as_of as timestamptz)
    order by x.model_id, night.value ->> 'as_of', x.as_of desc
) latest
group by model_id;
