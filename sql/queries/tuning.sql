-- name: labels
-- Every label that was stated of a family and became known after start, the one that wins last.
select entity_id, answers, value, stated_at, known_at
from nightshift.labels
where family = :family
  and known_at > cast(:start as timestamptz)
order by entity_id, answers, stated_at, known_at, value collate "C";
