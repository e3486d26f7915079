-- name: counts
-- What a simulation came to, since a moment.
select (select count(*) from nightshift.versions v join nightshift.models m using (model_id)
        where m.family = :family and v.trained_at >= :start) as fits,
       (select count(*) from nightshift.measurements x join nightshift.models m using (model_id)
        where m.family = :family and x.as_of >= :start and x.state = 'breached'
          and x.basis = 'realized' and x.version_id is not null) as breaches,
       (select count(*) from nightshift.promotions p join nightshift.models m using (model_id)
        where m.family = :family and p.promoted_at >= :start) as promotions;

-- name: versions
-- Which versions made each published night.
select p.as_of, array_to_string(b.version_ids, ' ') as versions
from nightshift.published p
join nightshift.batches b using (batch_id)
where p.family = :family;
