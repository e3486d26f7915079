-- name: earlier
-- The serving champion of each model of a family with each of its earlier ones that can be loaded, and until which night they were held against each other.
select p.model_id, m.name as model, p.seq, p.version_id as newer, v.number, p.effective_from as starts,
       q.version_id as older, w.number as older_number, w.trained_at, q.reference,
       coalesce(seen.until, p.effective_from) as seen
from nightshift.models m
join lateral (
    select * from nightshift.promotions
    where model_id = m.model_id and effective_from <= cast(:as_of as timestamptz)
    order by seq desc limit 1
) p on true
join lateral (
    select distinct on (version_id) version_id, reference from nightshift.promotions
    where model_id = m.model_id and seq < p.seq and version_id <> p.version_id
    order by version_id, seq desc
) q on true
join nightshift.versions v on v.version_id = p.version_id
join nightshift.versions w on w.version_id = q.version_id
left join nightshift.collected_artifacts gone on gone.artifact_hash = w.artifact_hash
left join lateral (
    select max(r.as_of) as until from nightshift.recollections r
    where r.model_id = m.model_id and r.seq = p.seq and r.version_id = q.version_id
) seen on true
where m.family = :family and gone.artifact_hash is null
order by p.model_id, q.version_id;

-- name: append
-- Keep what nights say of past champions; what is there stays.
insert into nightshift.recollections (model_id, seq, version_id, as_of, gain, row_count)
select model_id, seq, version_id, as_of, gain, row_count
from jsonb_to_recordset(cast(:nights as jsonb))
    as r (model_id int, seq int, version_id int, as_of timestamptz, gain double precision, row_count bigint)
on conflict (model_id, seq, version_id, as_of) do nothing;

-- name: gains
-- What nights up to a moment say of past champions, by promotion and version, oldest first.
select r.model_id, r.seq, r.version_id, array_agg(r.gain order by r.as_of) as gains
from nightshift.recollections r
join nightshift.models m using (model_id)
where m.family = :family and r.gain is not null
  and r.as_of > cast(:since as timestamptz) and r.as_of <= cast(:until as timestamptz)
group by r.model_id, r.seq, r.version_id;
