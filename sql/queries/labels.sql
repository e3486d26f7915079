-- name: latest
-- When the newest label that was known by as_of became known.
select max(known_at) as known_at
from nightshift.labels
where family = :family and known_at <= :as_of;

-- name: lock
-- One collection of a family at a time.
select pg_advisory_xact_lock(hashtext('nightshift.labels ' || cast(:family as text)));

-- name: append_incoming
-- Move what was copied into the temporary table to the labels; what is there already is skipped.
with fresh as materialized (
    select distinct i.entity_id, i.answers, i.value, i.stated_at,
           min(i.event_at) over (partition by i.entity_id, i.answers, i.value, i.stated_at) as event_at
    from incoming_labels i
    where not exists (
        select from nightshift.labels l
        where l.family = cast(:family as text) and l.entity_id = i.entity_id
          and l.answers is not distinct from i.answers
          and l.stated_at = i.stated_at and l.value = i.value)
),
placed as materialized (
    -- Stated inside a stretch that was asked about before: known only after the last such asking.
    select f.*, c.as_of as missed_at
    from fresh f
    left join lateral (
        select as_of
        from nightshift.label_collections
        where family = cast(:family as text) and as_of >= f.stated_at and since < f.stated_at
        order by as_of desc
        limit 1
    ) c on true
),
added as (
    insert into nightshift.labels
        (family, entity_id, answers, value, event_at, known_at, stated_at, collected_at)
    select cast(:family as text), entity_id, answers, value, event_at,
           case when missed_at is null then stated_at
                else greatest(cast(:as_of as timestamptz), missed_at + interval '1 microsecond') end,
           stated_at, cast(:collected_at as timestamptz)
    from placed
    returning 1
),
others as (
    select p.entity_id, p.answers, p.stated_at, p.value,
           bool_or(o.stated_at < p.stated_at) as corrects,
           bool_or(o.stated_at = p.stated_at) as contradicts
    from placed p
    join (
        select l.entity_id, l.answers, l.stated_at, l.value
        from nightshift.labels l
        where l.family = cast(:family as text) and l.entity_id in (select entity_id from placed)
        union all
        select entity_id, answers, stated_at, value from placed
    ) o on o.entity_id = p.entity_id and o.answers is not distinct from p.answers
       and o.value <> p.value
    group by p.entity_id, p.answers, p.stated_at, p.value
)
select (select count(*) from added) as added,
       (select count(*) from others where corrects) as corrections,
       (select count(*) from others where contradicts) as contradictions,
       (select count(*) from placed where missed_at is not null) as late;

-- name: record_collection
-- Remember what the source was asked, and what it gave.
insert into nightshift.label_collections
    (family, since, as_of, found, added, duplicates, corrections, contradictions, late, collected_at)
values
    (:family, cast(:since as timestamptz), cast(:as_of as timestamptz), cast(:found as bigint),
     cast(:added as bigint), cast(:duplicates as bigint), cast(:corrections as bigint),
     cast(:contradictions as bigint), cast(:late as bigint), cast(:collected_at as timestamptz));

-- name: silence
-- When the newest label known by as_of became known, and how many published predictions of the nights in (start, end] wait.
select (select max(known_at) from nightshift.labels
        where family = :family and known_at <= cast(:as_of as timestamptz)) as known_at,
       (select coalesce(sum(b.row_count), 0)::bigint
        from nightshift.published p join nightshift.batches b using (batch_id)
        where p.family = :family and p.as_of > cast(:start as timestamptz)
          and p.as_of <= cast(:end as timestamptz)) as predictions;

-- name: arrivals
-- By night and by days until the first label was known (null: none yet): how many published predictions.
select b.as_of,
       cast(ceil(greatest(extract(epoch from l.known_at - b.as_of), 0) / 86400) as int) as days,
       case when cast(:by_class as boolean) then l.value end as value,
       count(*) as predictions
from nightshift.published p
join nightshift.batches b using (batch_id)
join nightshift.prediction_rows r using (batch_id)
left join lateral (
    select min(l.known_at) as known_at,
           (array_agg(l.value order by l.known_at desc, l.stated_at desc, l.value collate "C" desc))[1] as value
    from nightshift.labels l
    where l.family = p.family
      and l.entity_id = r.entity_id
      and (l.answers is null or l.answers = b.as_of)
      and l.known_at <= cast(:as_of as timestamptz)
) l on true
where p.family = :family
  and p.as_of > cast(:start as timestamptz)
  and p.as_of <= cast(:as_of as timestamptz)
group by 1, 2, 3
order by 1, 2, 3;
