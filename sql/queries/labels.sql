-- name: latest
-- When the newest label that was known by as_of became known.
select max(known_at) as known_at
from nightshift.labels
where family = :family and known_at <= :as_of;

-- name: append_incoming
-- Move what was copied into the temporary table to the labels; what is there already is skipped.
with added as (
    insert into nightshift.labels (family, entity_id, answers, value, event_at, known_at, stated_at, collected_at)
    select family, entity_id, answers, value, event_at, known_at, known_at, collected_at
    from incoming_labels
    on conflict (family, entity_id, answers, stated_at, value) do nothing
    returning 1
)
select count(*) as added from added;
