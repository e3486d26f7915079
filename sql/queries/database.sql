-- name: record_event
-- Append one line to the audit trail.
insert into nightshift.events (happened_at, code, family, as_of, detail)
values (:happened_at, :code, :family, :as_of, cast(:detail as jsonb));

-- name: retired_nights
-- How many published nights of a family in (start, end] have no prediction rows any more.
select count(*) as nights, max(p.as_of) as last, max(t.ends) as ends
from nightshift.published p
join (select max(ends) as ends from nightshift.retirements) t on p.as_of < t.ends
where p.family = :family and p.as_of > cast(:start as timestamptz) and p.as_of <= cast(:end as timestamptz);
