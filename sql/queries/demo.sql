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
        where family = :family and kind = 'retrain' and rule not in ('on_demand', 'first_model')) as retrains,
       (select format('%s, %s to %s: %s, %s', model, to_char(window_start, 'YYYY-MM-DD'),
                      to_char(window_end, 'YYYY-MM-DD'), coalesce(round(value::numeric, 3)::text, '-'), state)
        from public.performance
        where family = :family and basis = 'realized' and model_version is not null and threshold is not null
        order by as_of desc, model limit 1) as last_measurement
from nightshift.published p
join nightshift.batches b using (batch_id)
where p.family = :family;

-- name: last_comparison
-- The latest comparison of a family with an opponent, in a sentence.
select format('%s: champion %s, challenger %s on %s later rows: %s', m.name,
              coalesce(round(c.champion_value::numeric, 3)::text, '-'),
              coalesce(round(c.challenger_value::numeric, 3)::text, '-'),
              c.row_count, d.kind) as sentence
from nightshift.comparisons c
join nightshift.versions v on v.version_id = c.challenger_version
join nightshift.models m using (model_id)
join nightshift.decisions d on d.about = 'comparison' and d.about_id = c.comparison_id
where m.family = :family and c.champion_version is not null
order by c.comparison_id desc
limit 1;
