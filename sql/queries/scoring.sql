-- name: verdict
-- The latest verdict on a snapshot; null before validation.
select (select verdict from nightshift.validations
        where snapshot_id = :snapshot_id order by validation_id desc limit 1) as verdict;

-- name: published_same
-- The published batch of a night, if the same snapshot and the same versions made it.
select b.batch_id
from nightshift.published p
join nightshift.batches b using (batch_id)
where p.family = :family and p.as_of = :as_of
  and b.snapshot_id = :snapshot_id and b.version_ids = cast(:version_ids as int[]);

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

-- name: finish
-- A batch is written to its end.
update nightshift.batches
set state = 'written', row_count = :row_count, skipped_rows = :skipped_rows, written_at = :written_at
where batch_id = :batch_id and state = 'writing';

-- name: record_model
-- How many rows of a batch belong to a model, and which version scored them.
insert into nightshift.batch_models (batch_id, model_id, version_id, row_count)
values (:batch_id, :model_id, :version_id, :row_count);

-- name: abandon
-- A batch will never be published.
update nightshift.batches set state = 'abandoned' where batch_id = :batch_id and state = 'writing';

-- name: get
-- A batch, and how many rows its snapshot has.
select b.batch_id, b.family, b.as_of, b.state, b.row_count, b.skipped_rows, s.row_count as snapshot_rows
from nightshift.batches b
join nightshift.snapshots s using (snapshot_id)
where b.batch_id = :batch_id;

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

-- name: shown
-- The batch that readers see for a night.
select b.batch_id, b.snapshot_id, b.row_count
from nightshift.published p
join nightshift.batches b using (batch_id)
where p.family = :family and p.as_of = :as_of;

-- name: unseen
-- Batches with rows that no reader sees, begun before a moment.
select b.batch_id, b.as_of
from nightshift.batches b
where b.started_at < :before and b.purged_at is null
  and not exists (select from nightshift.published p where p.batch_id = b.batch_id);

-- name: delete_rows
-- Delete the rows of batches, which are of some nights.
delete from nightshift.prediction_rows
where batch_id = any(cast(:batch_ids as int[])) and as_of = any(cast(:nights as timestamptz[]));

-- name: retire_month
-- Drop the oldest month of rows if it ends by a moment: which it was, none, or busy.
select nightshift.retire_month(cast(:before as timestamptz), cast(:now as timestamptz)) as month;

-- name: delete_shadow
-- Delete what a challenger in shadow has told in a batch.
delete from nightshift.prediction_rows
where batch_id = :batch_id and as_of = cast(:as_of as timestamptz) and version_id = :version_id and role = 1;

-- name: scored_by
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
