-- name: latest
-- When the newest label that was known by as_of became known.
select max(known_at at time zone 'UTC') at time zone 'UTC' as known_at
from nightshift.labels
where family = :family and known_at at time zone 'UTC' <= cast(:as_of as timestamptz) at time zone 'UTC';

-- name: lock
-- Wait until no other collection of the family is under way, and keep others waiting.
select pg_advisory_xact_lock(hashtext('nightshift.labels ' || cast(:family as text)));

-- name: append_incoming
-- Move what was copied into the temporary table to the labels, each with the moment we could know it; tell what it was.
with asked as (
    select range_agg(tstzrange(since, as_of, '(]')) as stretches, max(as_of) as latest
    from nightshift.label_collections
    where family = cast(:family as text) and since < as_of
      and as_of > cast(:since as timestamptz)  -- earlier ones have not asked about any of these labels
),
fresh as (
    select i.entity_id, i.answers, i.value, i.stated_at, min(i.event_at) as event_at
    from incoming_labels i
    where not exists (
        select from nightshift.labels l
        where l.family = cast(:family as text) and l.entity_id = i.entity_id
          and l.answers is not distinct from i.answers
          and l.stated_at = i.stated_at and l.value = i.value
        offset 0)  -- looked up one by one: a join might read all labels there ever were
    group by i.entity_id, i.answers, i.value, i.stated_at
),
placed as materialized (
    -- What was not there when its moment was asked about is known after every moment asked about so far.
    select f.*, coalesce(f.stated_at <@ a.stretches, false) as late,
           case when f.stated_at <@ a.stretches
                then greatest(cast(:as_of as timestamptz), a.latest + interval '1 microsecond')
                else f.stated_at end as known_at
    from fresh f cross join asked a
),
added as (
    insert into nightshift.labels
        (family, entity_id, answers, value, event_at, known_at, stated_at, collected_at)
    select cast(:family as text), entity_id, answers, value, event_at, known_at, stated_at,
           cast(:collected_at as timestamptz)
    from placed
),
ordered as (
    -- All labels of these entities in the order in which the later wins.
    select is_new, value, stated_at, lag(value) over o as earlier_value, lag(stated_at) over o as earlier_stated_at,
           count(*) over (partition by entity_id, answers, stated_at) as at_this_moment
    from (
        select entity_id, answers, value, stated_at, known_at, true as is_new
        from placed
        union all
        select l.*, false
        from (select distinct entity_id from placed) p
        cross join lateral (
            select l.entity_id, l.answers, l.value, l.stated_at, l.known_at
            from nightshift.labels l
            where l.family = cast(:family as text) and l.entity_id = p.entity_id
            offset 0
        ) l
    ) labels
    window o as (partition by entity_id, answers order by stated_at, known_at, value collate "C")
)
select (select count(*) from placed) as added,
       (select count(*) from placed where late) as late,
       count(*) filter (where earlier_value <> value and earlier_stated_at <> stated_at) as corrections,
       count(*) filter (where at_this_moment > 1) as contradictions
from ordered
where is_new;

-- name: recount
-- Let later plans know of labels that were just added, if they are many.
select nightshift.recount_labels(cast(:added as bigint));

-- name: record_collection
-- Remember what the source was asked, and what it gave.
insert into nightshift.label_collections
    (family, since, as_of, found, added, duplicates, corrections, contradictions, late, collected_at)
values
    (:family, cast(:since as timestamptz), cast(:as_of as timestamptz), cast(:found as bigint),
     cast(:added as bigint), cast(:duplicates as bigint), cast(:corrections as bigint),
     cast(:contradictions as bigint), cast(:late as bigint), cast(:collected_at as timestamptz));

-- name: unlabelled
-- How many published predictions of the nights in (start, end] have no label that is known by as_of.
select count(*) as predictions
from nightshift.published_rows(:family, cast(:start as timestamptz), cast(:end as timestamptz)) r
where r.role = 0
  and not exists (
    select from nightshift.labels l
    where l.family = :family and l.entity_id = r.entity_id
      and (l.answers is null or l.answers = r.as_of)
      and l.known_at <= cast(:as_of as timestamptz)
    offset 0);

-- name: asked_before
-- Whether one earlier collection has asked about all labels that became known in (since, as_of].
select exists (
    select from nightshift.label_collections
    where family = :family and since <= cast(:since as timestamptz) and as_of >= cast(:as_of as timestamptz)
) as asked;

-- name: arrivals
-- By night, by days until the first label was known (null: none yet) and by latest label: how many published predictions.
select r.as_of,
       case when l.known_at is not null  -- greatest would take null for 0
            then cast(ceil(greatest(extract(epoch from l.known_at - r.as_of), 0) / 86400) as int) end as days,
       case when cast(:by_class as boolean) then l.value end as value,
       count(*) as predictions
from nightshift.published_rows(:family, cast(:start as timestamptz), cast(:as_of as timestamptz)) r
left join lateral (
    select min(l.known_at) as known_at,
           (array_agg(l.value order by l.stated_at desc, l.known_at desc, l.value collate "C" desc))[1] as value
    from nightshift.labels l
    where l.family = :family
      and l.entity_id = r.entity_id
      and (l.answers is null or l.answers = r.as_of)
      and l.known_at <= cast(:as_of as timestamptz)
) l on true
where r.role = 0
group by 1, 2, 3
order by 1, 2, 3;
