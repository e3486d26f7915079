-- name: latest
-- The newest snapshot of a night, with the verdict on it (null before validation).
select s.snapshot_id, s.family, s.as_of, s.revision, s.content_hash, s.row_count, s.dropped_rows,
       s.query_hash, s.taken_at, s.left_out, v.verdict
from nightshift.latest_snapshots() s
left join lateral nightshift.latest_validation(s.snapshot_id) v on true
where s.family = :family and s.as_of = :as_of;

-- name: register
-- Register a snapshot; a racer that froze the same night first keeps it.
insert into nightshift.snapshots
    (family, as_of, revision, content_hash, row_count, dropped_rows, query_hash, taken_at, left_out)
values
    (:family, :as_of, :revision, :content_hash, :row_count, :dropped_rows, :query_hash, :taken_at,
     cast(:left_out as jsonb))
on conflict (family, as_of, revision) do nothing;

-- name: get
-- One snapshot by its id.
select snapshot_id, family, as_of, revision, content_hash, row_count, dropped_rows, query_hash, taken_at, left_out
from nightshift.snapshots
where snapshot_id = :snapshot_id;

-- name: nights
-- The latest snapshot of each night in (start, end], with the verdict on it (null before validation).
select s.as_of, s.snapshot_id, s.content_hash, s.query_hash, v.verdict
from nightshift.latest_snapshots() s
left join lateral nightshift.latest_validation(s.snapshot_id) v on true
where s.family = :family and s.as_of > :start and s.as_of <= :end
order by s.as_of;
