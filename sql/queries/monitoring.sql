-- name: outcomes
-- Published predictions of the nights in (start, end], each with its latest label known by a moment.
select r.entity_id, b.as_of, r.score, r.label, l.value
from nightshift.published p
join nightshift.batches b using (batch_id)
join nightshift.prediction_rows r using (batch_id)
left join lateral (
    select l.value
    from nightshift.labels l
    where l.family = p.family
      and l.entity_id = r.entity_id
      and (l.answers is null or l.answers = b.as_of)
      and l.known_at <= cast(:known_by as timestamptz)
    order by l.known_at desc, l.label_id desc
    limit 1
) l on true
where p.family = :family
  and p.as_of > cast(:start as timestamptz)
  and p.as_of <= cast(:end as timestamptz)
order by b.as_of, r.entity_id;

-- name: append
-- Store a measurement; the first one of a moment stays.
insert into nightshift.measurements
    (model_id, metric, as_of, window_start, window_end, state, value, low, high, predictions, labels,
     threshold, measured_at)
values
    (:model_id, :metric, :as_of, :window_start, :window_end, :state, :value, :low, :high, :predictions,
     :labels, :threshold, :measured_at)
on conflict (model_id, metric, as_of) do nothing;

-- name: find
-- The measurement of a moment.
select measurement_id
from nightshift.measurements
where model_id = :model_id and metric = :metric and as_of = :as_of;

-- name: recent
-- The latest measurements of a model up to a moment, latest first.
select model_id, metric, as_of, window_start, window_end, state, value, low, high, predictions, labels,
       threshold
from nightshift.measurements
where model_id = :model_id and metric = :metric and as_of <= :as_of
order by as_of desc
limit :count;
