-- name: latest
-- When the newest label that was known by as_of became known.
select max(known_at at time zone 'UTC') at time zone 'UTC' as known_at
from nightshift.labels_known(:family, '-infinity', cast(:as_of as timestamptz));

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
    (family, since, as_of, found, added, duplicates, corrections, contradictions, late, set_aside, collected_at)
values
    (:family, cast(:since as timestamptz), cast(:as_of as timestamptz), cast(:found as bigint),
     cast(:added as bigint), cast(:duplicates as bigint), cast(:corrections as bigint),
     cast(:contradictions as bigint), cast(:late as bigint), cast(:set_aside as bigint),
     cast(:collected_at as timestamptz));

-- name: set_aside
-- Keep labels that are not as expected apart; how many of them are new.
with added as (
    insert into nightshift.labels_set_aside
        (family, entity_id, answers, value, event_at, stated_at, reason, collected_at)
    select cast(:family as text), entity_id, answers, value, event_at, stated_at, reason,
           cast(:collected_at as timestamptz)
    from unexpected_labels
    on conflict do nothing
    returning 1
)
select count(*) as added from added;

-- name: set_aside_at
-- What the collections of a moment have set aside, by reason, each with an example.
select s.reason, count(*) as labels, min(s.entity_id || ': ' || s.value) as example
from nightshift.labels_set_aside s
where s.family = :family
  and s.collected_at in (
      select c.collected_at from nightshift.label_collections c
      where c.family = :family and c.as_of = cast(:as_of as timestamptz) and c.set_aside > 0)
group by s.reason
order by labels desc, reason;

-- name: last_matured
-- The latest published night that had matured by a moment, its predictions, and how many of them have no truth; and the first night.
select p.as_of, (select min(f.as_of) from nightshift.published f where f.family = :family) as first_night,
       (select count(*) from nightshift.published_rows(:family, p.as_of - interval '1 microsecond', p.as_of) r
        where r.role = 0) as predictions,
       (select count(*) from nightshift.published_rows(:family, p.as_of - interval '1 microsecond', p.as_of) r
        where r.role = 0
          and not exists (select from nightshift.truth(:family, r.entity_id, r.as_of, cast(:as_of as timestamptz)))
       ) as unlabelled
from nightshift.published p
where p.family = :family and p.as_of <= cast(:matured as timestamptz)
order by p.as_of desc
limit 1;

-- name: answered_labels
-- Of the newest labels that became known in (since, as_of], about something since the first night: how many, and how many answer a prediction.
select count(*) as labels,
       count(*) filter (where exists (
           select from nightshift.prediction_rows r
           join nightshift.published p on p.family = :family and p.batch_id = r.batch_id and p.as_of = r.as_of
           where r.entity_id = l.entity_id and r.role = 0
             and r.as_of > cast(:oldest as timestamptz) and r.as_of <= cast(:as_of as timestamptz)
             and (l.answers is null or l.answers = r.as_of))) as answered
from (
    select entity_id, answers from nightshift.labels_known(:family, cast(:since as timestamptz), cast(:as_of as timestamptz))
    where event_at >= cast(:first_night as timestamptz)
    order by known_at at time zone 'UTC' desc
    limit :sample
) l;

-- name: look_alikes
-- Labels that answer nobody beside predictions that have no label, those first that differ by blanks, case or zeros only.
with strangers as (
    select entity_id, answers, nightshift.bare_key(entity_id) as bare
    from nightshift.labels_known(:family, cast(:since as timestamptz), cast(:as_of as timestamptz))
    where event_at >= cast(:first_night as timestamptz)
    order by known_at at time zone 'UTC' desc, entity_id
    limit :sample
),
scored as (
    select r.entity_id, r.as_of, nightshift.bare_key(r.entity_id) as bare
    from nightshift.published_rows(:family, cast(:night as timestamptz) - interval '1 microsecond', cast(:night as timestamptz)) r
    where r.role = 0
)
select l.entity_id as label, l.answers, s.entity_id as prediction, s.as_of as night, s.bare = l.bare as alike
from (select *, row_number() over (order by entity_id) as place from strangers) l
join (select *, row_number() over (order by entity_id) as place from scored) s
  on s.bare = l.bare or s.place = l.place
order by alike desc, l.entity_id
limit 2;

-- name: repeated_entities
-- Of some entities of a published night: how many, and how many of them the published night before has, too.
select count(*) as entities,
       count(*) filter (where exists (
           select from nightshift.prediction_rows r
           where r.entity_id = n.entity_id and r.role = 0 and r.as_of = before.as_of
             and r.batch_id = before.batch_id)) as again,
       max(before.as_of) as night_before
from (
    select as_of, batch_id from nightshift.published
    where family = :family and as_of < cast(:as_of as timestamptz)
    order by as_of desc
    limit 1
) before
cross join (
    select r.entity_id
    from nightshift.published_rows(:family, cast(:as_of as timestamptz) - interval '1 microsecond', cast(:as_of as timestamptz)) r
    where r.role = 0
    limit :sample
) n;

-- name: repetition_events
-- Whether it was told earlier that a family scores the same entities night after night.
select exists (
    select from nightshift.events
    where family = :family and code = 'repeated_entities' and as_of <> cast(:as_of as timestamptz)
) as told_before, exists (
    select from nightshift.events
    where family = :family and code = 'repeated_entities' and as_of = cast(:as_of as timestamptz)
) as told_now;

-- name: unlabelled_predictions
-- How many published predictions of the nights in (start, end] have no label that is known by as_of.
select count(*) as predictions
from nightshift.published_rows(:family, cast(:start as timestamptz), cast(:end as timestamptz)) r
where r.role = 0
  and not exists (select from nightshift.truth(:family, r.entity_id, r.as_of, cast(:as_of as timestamptz)));

-- name: covering_collection
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
left join lateral nightshift.truth(:family, r.entity_id, r.as_of, cast(:as_of as timestamptz)) l on true
where r.role = 0
group by 1, 2, 3
order by 1, 2, 3;

-- name: oldest_rows
-- Until when predictions were dropped; null where none were.
select max(ends) as kept_from from nightshift.retirements;

