-- name: clock
-- What time it is for the database.
select clock_timestamp() as now;

-- name: revision
-- The last migration of the database.
select version_num as revision from nightshift.schema_version;

-- name: rights
-- Every relation of ours, and what some roles, or everybody, may do with it; a relation that nobody may use is there once.
with relations as (
    select c.oid, n.nspname || '.' || c.relname as relation, c.relacl, c.relowner
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname in ('nightshift', 'public') and c.relkind in ('r', 'p', 'v')
      and c.relname !~ '^(prediction_rows_\d{4}_\d{2}|schema_version)$'
      and (n.nspname = 'nightshift' or c.relname !~ '^predictions_' or c.relname = 'predictions_latest')
      and (n.nspname = 'nightshift' or c.relname = any(array[
          'champions', 'contract', 'decisions', 'models', 'nights', 'performance', 'predictions', 'predictions_latest', 'signals']))
),
held as (
    select r.relation, a.grantee, lower(a.privilege_type) as "right"
    from relations r cross join lateral aclexplode(r.relacl) a
    where a.grantee <> r.relowner
    union
    select r.relation, a.grantee, lower(a.privilege_type) || '(' || t.attname || ')'
    from relations r
    join pg_catalog.pg_attribute t on t.attrelid = r.oid and t.attnum > 0 and not t.attisdropped
    cross join lateral aclexplode(t.attacl) a
    where a.grantee <> r.relowner
)
select r.relation, coalesce(o.rolname, case when h.grantee = 0 then 'public' end) as role, h."right"
from relations r
left join (held h left join pg_catalog.pg_roles o on o.oid = h.grantee)
  on h.relation = r.relation and (o.rolname = any(cast(:roles as text[])) or h.grantee = 0)
order by r.relation, role, h."right";

-- name: connections
-- How many connections the server has, and how many it allows.
select (select count(*) from pg_catalog.pg_stat_activity where backend_type = 'client backend') as open,
       cast(current_setting('max_connections') as int) as allowed;

-- name: idle
-- Sessions in this database that hold a transaction open and have done nothing since a moment.
select pid, usename, application_name, state_change as since
from pg_catalog.pg_stat_activity
where datname = current_database() and state like 'idle in transaction%'
  and state_change < cast(:before as timestamptz)
order by state_change;

-- name: versions
-- How many versions there are.
select count(*) as versions from nightshift.versions;

-- name: served
-- The families that have a champion.
select distinct m.family
from nightshift.promotions p
join nightshift.models m using (model_id)
order by m.family;

-- name: pseudonyms
-- How many keys pseudonyms were made with.
select count(*) as keys from nightshift.pseudonym_keys;

-- name: libraries
-- What the champions of active models were trained with, and how many with the same.
select m.family, v.manifest -> 'libraries' as libraries, v.manifest ->> 'python' as python, count(*) as models
from nightshift.models m
join nightshift.membership_at(m.model_id, 'infinity') n on n.state = 'active'
join lateral (
    select version_id from nightshift.promotions where model_id = m.model_id order by seq desc limit 1
) p on true
join nightshift.versions v using (version_id)
group by m.family, v.manifest -> 'libraries', v.manifest ->> 'python'
order by m.family;

-- name: files
-- Every file that is registered, what it belongs to, and whether it must be there.
select 'parquet' as kind, s.content_hash as hash, true as needed,
       min(s.family || ' at ' || to_char(s.as_of at time zone 'UTC', 'YYYY-MM-DD HH24:MI') || 'Z') as subject
from nightshift.snapshots s
group by s.content_hash
union all
select 'joblib', v.artifact_hash, bool_and(v.collected_at is null), min(v.family || ', version ' || v.number || ' of ' || v.name)
from nightshift.version_records v
group by v.artifact_hash
union all
select 'code', v.manifest #>> '{code,archive}', true, min('the code of ' || v.family)
from nightshift.version_records v
where v.manifest #>> '{code,archive}' is not null
group by v.manifest #>> '{code,archive}';

-- name: batches
-- Batches begun before a moment that nobody sees and that were not purged.
select b.batch_id, b.family, b.as_of, b.state, b.started_at
from nightshift.batches b
where b.started_at < cast(:before as timestamptz) and b.purged_at is null
  and not exists (select from nightshift.published p where p.batch_id = b.batch_id)
order by b.batch_id;

-- name: retrains
-- Decisions to retrain made before a moment of which nothing came: no verdict on a challenger, and no failure.
select m.family, array_agg(d.decision_id order by d.decision_id) as ids, array_agg(m.name order by d.decision_id) as models,
       min(d.as_of) as first
from nightshift.decisions d
join nightshift.models m using (model_id)
where d.kind = 'retrain' and d.decided_at < cast(:before as timestamptz)
  and not exists (
      select from nightshift.decisions f where f.about = 'training' and f.about_id = d.decision_id)
  and not exists (
      select from nightshift.comparisons c
      join nightshift.decisions e on e.about = 'comparison' and e.about_id = c.comparison_id
      where c.decision_id = d.decision_id)
group by m.family
order by m.family;

-- name: durations
-- How long the last nights of each family took from their beginning until they were published: nine of ten at most so long.
select family, percentile_disc(0.9) within group (order by lasts) as lasts
from (
    select p.family, p.published_at - b.started_at as lasts,
           row_number() over (partition by p.family order by p.as_of desc) as place
    from nightshift.published p
    join nightshift.batches b using (batch_id)
) each
where place <= 14
group by family;
