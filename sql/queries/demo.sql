-- name: latest_night
-- The latest published night of a family.
select max(as_of) as as_of from nightshift.last_night(:family);

-- name: champions
-- The version number that serves, for each model.
select family, model, model_version as number from public.champions;

-- name: figures
-- What a family has lived through, in one row.
select count(*) as nights,
       coalesce(sum(b.row_count), 0)::bigint as rows,
       (select count(*) from public.performance
        where family = :family and basis = 'realized' and model_version is not null) as measurements,
       (select count(*) from public.performance
        where family = :family and basis = 'realized' and model_version is not null
          and state = 'breached') as breaches,
       (select count(*) from public.decisions
        where family = :family and kind = 'retrain' and rule not in ('on_demand', 'first_model')) as retrains
from nightshift.published p
join nightshift.batches b using (batch_id)
where p.family = :family;

-- name: last_measurement
-- The latest measurement of a family that has a threshold.
select model, window_start, window_end, value, threshold, state
from public.performance
where family = :family and basis = 'realized' and model_version is not null and threshold is not null
order by as_of desc, model limit 1;

-- name: last_comparison
-- The latest comparison of a family with an opponent, and what came of it.
select m.name as model, c.champion_value, c.challenger_value, c.row_count, d.kind
from nightshift.comparisons c
join nightshift.versions v on v.version_id = c.challenger_version
join nightshift.models m using (model_id)
join nightshift.decisions d on d.about = 'comparison' and d.about_id = c.comparison_id
where m.family = :family and c.champion_value is not null and c.challenger_value is not null
order by c.comparison_id desc
limit 1;
