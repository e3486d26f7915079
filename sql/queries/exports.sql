-- name: shown
-- The batch that readers see of a night, and the contract that its columns follow.
select p.as_of, p.batch_id, b.row_count as rows, (select version from public.contract) as contract
from nightshift.published p
join nightshift.batches b using (batch_id)
where p.family = :family and p.as_of = :as_of;

-- name: nights
-- The published nights of a family in [since, until] that are not retired, oldest first.
select p.as_of
from nightshift.published p
where p.family = :family and p.as_of >= cast(:since as timestamptz) and p.as_of <= cast(:until as timestamptz)
  and not exists (select from nightshift.retirements t where t.ends > p.as_of)
order by p.as_of;
