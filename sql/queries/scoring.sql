-- name: same_published_batch
-- The published batch of a night, if the same snapshot and the same versions made it, and none failed.
select b.batch_id
from nightshift.published p
join nightshift.batches b using (batch_id)
where p.family = :family and p.as_of = :as_of
  and b.snapshot_id = :snapshot_id and b.version_ids = cast(:version_ids as int[])
  and b.failed_rows = 0;

-- name: open_month
-- Have a partition for a night's rows; false where the night's month was retired.
select nightshift.open_month(cast(:as_of as timestamptz)) as open;

-- name: show_family
-- Have the view predictions_<family>, with the columns of the family's task.
select nightshift.show_family(:family, :task);

-- name: start
-- Begin a batch; its id is its fence, so a batch begun later wins.
insert into nightshift.batches (family, as_of, snapshot_id, version_ids, state, started_at)
values (:family, :as_of, :snapshot_id, cast(:version_ids as int[]), 'writing', :started_at)
returning batch_id;

-- name: same_begun_batch
-- A batch in several parts that can still be written to its end and published: same snapshot, same versions, none failed.
select b.batch_id
from nightshift.batches b
where b.family = :family and b.as_of = :as_of and b.snapshot_id = :snapshot_id
  and b.version_ids = cast(:version_ids as int[]) and b.state = 'writing' and b.purged_at is null
  and b.started_at > :since
  and (select count(*) > 1 and bool_and(p.failed = '{}') from nightshift.batch_parts p where p.batch_id = b.batch_id)
  and not exists (
      select from nightshift.published p
      where p.family = b.family and p.as_of = b.as_of and p.batch_id > b.batch_id)
order by b.batch_id desc
limit 1;

-- name: add_part
-- One part of a batch, still to be written.
insert into nightshift.batch_parts (batch_id, part, plan) values (:batch_id, :part, cast(:plan as jsonb));

-- name: parts
-- The parts of a batch, in order, and what became of them.
select part, row_count, written_at, failed, failed_shadows
from nightshift.batch_parts where batch_id = :batch_id order by part;

-- name: plans
-- What the parts of a batch score, in order.
select plan from nightshift.batch_parts where batch_id = :batch_id order by part;

-- name: part
-- What a part scores, and how far it has come.
select p.plan, p.written_at, p.shadows_at, b.state, b.purged_at
from nightshift.batch_parts p
join nightshift.batches b using (batch_id)
where p.batch_id = :batch_id and p.part = :part;

-- name: claim_part
-- In the transaction that writes a part: nobody has written it yet. None is changed where somebody was faster, or gave the batch up.
update nightshift.batch_parts
set written_at = :moment, row_count = :row_count, failed = cast(:failed as jsonb)
where batch_id = :batch_id and part = :part and written_at is null
  and batch_id in (select batch_id from nightshift.batches where state = 'writing' and purged_at is null);

-- name: claim_shadows
-- The same for what the challengers in shadow tell.
update nightshift.batch_parts
set shadows_at = :moment, failed_shadows = cast(:failed as jsonb)
where batch_id = :batch_id and part = :part and shadows_at is null
  and batch_id in (select batch_id from nightshift.batches where purged_at is null);

-- name: finish
-- A batch is written to its end.
update nightshift.batches
set state = 'written', row_count = :row_count, skipped_rows = :skipped_rows, failed_rows = :failed_rows,
    written_at = :written_at
where batch_id = :batch_id and state = 'writing';

-- name: record_models
-- How many rows of a batch belong to each model, and which version scored them.
insert into nightshift.batch_models (batch_id, model_id, version_id, row_count)
select :batch_id, model_id, version_id, row_count
from unnest(cast(:model_ids as int[]), cast(:version_ids as int[]), cast(:row_counts as bigint[]))
     as told (model_id, version_id, row_count);

-- name: abandon
-- A batch will never be published.
update nightshift.batches set state = 'abandoned' where batch_id = :batch_id and state = 'writing';

-- name: get
-- Which night a batch is of.
select family, as_of from nightshift.batches where batch_id = :batch_id;

-- name: lock
-- A batch that is about to be finished or published, with what must hold of it; nobody purges it meanwhile.
select b.batch_id, b.family, b.as_of, b.version_ids, b.state, b.row_count, b.skipped_rows, b.failed_rows, b.purged_at,
       s.row_count as snapshot_rows
from nightshift.batches b
join nightshift.snapshots s using (snapshot_id)
where b.batch_id = :batch_id
for update of b;

-- name: flip
-- Point readers at a batch, never back to an older one.
insert into nightshift.published (family, as_of, batch_id, published_at)
values (:family, :as_of, :batch_id, :published_at)
on conflict (family, as_of) do update
set batch_id = excluded.batch_id, published_at = excluded.published_at
where published.batch_id < excluded.batch_id;

-- name: notify
-- Tell those who listen, once this transaction is kept.
select pg_notify('nightshift_published', cast(:payload as text));

-- name: contract
-- The version of what readers may rely on.
select version from public.contract;

-- name: published_batch
-- The batch that readers see for a night.
select b.batch_id, b.snapshot_id, b.row_count
from nightshift.published p
join nightshift.batches b using (batch_id)
where p.family = :family and p.as_of = :as_of;

-- name: lock_unpublished
-- Batches with rows that no reader sees, begun before a moment, without those being published now.
select b.batch_id
from nightshift.batches b
where b.started_at < :before and b.purged_at is null
  and not exists (select from nightshift.published p where p.batch_id = b.batch_id)
for update of b skip locked;

-- name: still_unpublished
-- Of locked batches, those that were not published before the lock was taken.
select b.batch_id, b.as_of
from nightshift.batches b
where b.batch_id = any(cast(:batch_ids as int[]))
  and not exists (select from nightshift.published p where p.batch_id = b.batch_id);

-- name: delete_rows
-- Delete the rows of batches, which are of some nights.
delete from nightshift.prediction_rows
where batch_id = any(cast(:batch_ids as int[])) and as_of = any(cast(:nights as timestamptz[]));

-- name: retire_month
-- Drop the oldest month of rows if it ends by a moment: which it was, none, or busy.
select nightshift.retire_month(cast(:before as timestamptz), cast(:now as timestamptz)) as month;

-- name: delete_failed
-- Delete what versions that failed have told in a batch.
delete from nightshift.prediction_rows
where batch_id = :batch_id and as_of = :as_of and version_id = any(cast(:version_ids as int[])) and role = :role;

-- name: nights_of_version
-- The published nights from a moment on that a version has scored and that are not retired, with the snapshots behind them, oldest first.
select p.as_of, b.snapshot_id
from nightshift.published p
join nightshift.batches b using (batch_id)
where p.family = :family and p.as_of >= cast(:since as timestamptz)
  and cast(:version_id as int) = any(b.version_ids)
  and not exists (select from nightshift.retirements t where t.ends > p.as_of)
order by p.as_of;

-- name: mark_purged
-- Remember that the rows of batches are gone.
update nightshift.batches set purged_at = :purged_at where batch_id = any(cast(:batch_ids as int[]));

-- name: versions
-- The version numbers that made a batch.
select v.number
from nightshift.batches b
join nightshift.versions v on v.version_id = any(b.version_ids)
where b.batch_id = :batch_id
order by v.number;

-- name: replayed_parts
-- The plans of a batch's parts, in order, and which versions failed in them.
select plan, failed from nightshift.batch_parts where batch_id = :batch_id order by part;

-- name: replayed_rows
-- What readers see of a batch.
select entity_id, model_id, version_id, score, label, flags
from nightshift.prediction_rows
where batch_id = :batch_id and as_of = :as_of and role = 0;
