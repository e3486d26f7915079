-- name: append
-- Somebody holds a family, or releases it.
insert into nightshift.holds (family, held, reason, said_by, recorded_at)
values (:family, :held, :reason, :by, :now);

-- name: current
-- The families that are held at a moment: all of them, or only one.
select family, reason, said_by as by, recorded_at as since
from (
    select distinct on (family) *
    from nightshift.holds
    where recorded_at <= cast(:at as timestamptz) and (cast(:family as text) is null or family = :family)
    order by family, hold_id desc
) latest
where held
order by family;

-- name: lock
-- One word on a family at a time.
select pg_advisory_xact_lock(hashtext('nightshift.holds'), hashtext(cast(:family as text)));
