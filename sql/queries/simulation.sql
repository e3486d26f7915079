-- name: counts
-- What a simulation came to, since a moment.
select (select count(*) from nightshift.versions v join nightshift.models m using (model_id)
        where m.family = :family and v.trained_at >= :start) as fits,
       (select count(*) from nightshift.measurements x join nightshift.models m using (model_id)
        where m.family = :family and x.as_of >= :start and x.state = 'breached') as breaches,
       (select count(*) from nightshift.promotions p join nightshift.models m using (model_id)
        where m.family = :family and p.promoted_at >= :start) as promotions;

-- name: versions
-- Which version made each published night.
select p.as_of, v.number
from nightshift.published p
join nightshift.batches b using (batch_id)
join nightshift.versions v on v.version_id = b.version_ids[1]
where p.family = :family;
