-- name: snapshots
-- The accepted snapshot of each night in (start, end], oldest first.
select distinct on (s.as_of) s.as_of, s.content_hash, s.taken_at
from nightshift.snapshots s
join lateral nightshift.latest_validation(s.snapshot_id) v on v.verdict in ('passed', 'warned')
where s.family = :family and s.as_of > :start and s.as_of <= :end
order by s.as_of, s.revision desc;

-- name: labels
-- For each entity (and as_of, where labels answer one) the latest label known by a moment, and when its first was stated.
-- What was stated by the start of the nights is left out: who can know a truth does not predict it.
select distinct on (entity_id, answers) entity_id, answers, value, first_stated
from (
    select entity_id, answers, value, stated_at, known_at,
           min(stated_at) over (partition by entity_id, answers) as first_stated
    -- Nothing is known before it is stated: what was known by the start was stated by then as well.
    from nightshift.labels_known(:family, cast(:start as timestamptz), cast(:known_by as timestamptz))
) told
where first_stated > cast(:start as timestamptz)
  and not exists (
      select from nightshift.labels l
      where l.family = :family and l.entity_id = told.entity_id
        and (l.answers = told.answers or (l.answers is null and told.answers is null))
        and l.known_at <= cast(:start as timestamptz)
      offset 0)
order by entity_id, answers, stated_at desc, known_at desc, value collate "C" desc;

-- name: stated_before
-- Which of some entities had a label by the start of the nights already.
select distinct entity_id
from nightshift.labels
where family = :family and entity_id = any(:entities) and known_at <= cast(:start as timestamptz);

-- name: excluded_entities
-- The entities that nothing may learn from, as far as was said by a moment; erased is for good.
select entity_id
from (
    select distinct on (entity_id) entity_id, state
    from nightshift.exclusions
    where family = :family and as_of <= cast(:stated_by as timestamptz)
    order by entity_id, exclusion_id desc
) latest
where state = 'quarantined'
union
select entity_id from nightshift.exclusions where family = :family and state = 'erased';

-- name: excluded_since
-- How many entities were excluded in (since, stated_by].
select count(distinct entity_id) as entities
from nightshift.exclusions
where family = :family and state <> 'released'
  and as_of > cast(:since as timestamptz) and as_of <= cast(:stated_by as timestamptz);

-- name: exclusion
-- What was last said about an entity.
select state, as_of
from nightshift.exclusions
where family = :family and entity_id = :entity_id
order by exclusion_id desc
limit 1;

-- name: append_exclusion
-- Say that nothing may learn from an entity, or that it may again.
insert into nightshift.exclusions (family, entity_id, state, reason, said_by, as_of, recorded_at)
values (:family, :entity_id, :state, :reason, :said_by, :as_of, :as_of);

-- name: known_labels
-- How many labels of an entity are known.
select count(*) as labels from nightshift.labels where family = :family and entity_id = :entity_id;

-- name: numbered
-- The version of a model with a number; its latest where no number is given.
select version_id
from nightshift.versions
where model_id = :model_id and (cast(:number as int) is null or number = :number)
order by number desc
limit 1;
