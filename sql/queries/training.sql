-- name: snapshots
-- The accepted snapshot of each night in (start, end], oldest first.
select distinct on (s.as_of) s.as_of, s.content_hash
from nightshift.snapshots s
join lateral (
    select v.verdict from nightshift.validations v
    where v.snapshot_id = s.snapshot_id order by v.validation_id desc limit 1
) v on v.verdict in ('passed', 'warned')
where s.family = :family and s.as_of > :start and s.as_of <= :end
order by s.as_of, s.revision desc;

-- name: labels
-- For each entity (and as_of, where labels answer one) the latest label known by a moment.
select distinct on (entity_id, answers) entity_id, answers, value
from nightshift.labels
where family = :family
  and known_at > cast(:start as timestamptz)
  and known_at <= cast(:known_by as timestamptz)
order by entity_id, answers, stated_at desc, known_at desc, value collate "C" desc;
