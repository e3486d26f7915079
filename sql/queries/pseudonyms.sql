-- name: key
-- By which key a family's entities are told (null: by none), whether there are rows of it, and the key of any family.
select k.key_id, k.method,
       exists (select from nightshift.snapshots s where s.family = f.family)
       or exists (select from nightshift.labels l where l.family = f.family) as has_rows,
       (select min(key_id) from nightshift.pseudonym_keys) as of_any
from (select cast(:family as text) as family) f
left join nightshift.pseudonym_keys k using (family);

-- name: begin
-- Record by which key a family's entities are told; a racer that was faster keeps it.
insert into nightshift.pseudonym_keys (family, method, key_id, recorded_at)
values (:family, :method, :key_id, :now)
on conflict (family) do nothing;
