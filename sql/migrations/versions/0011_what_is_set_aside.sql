-- Rows that are left out of a night, each for a reason, and labels of which an expectation does not hold.

alter table nightshift.snapshots add column left_out jsonb not null default '{}';
comment on column nightshift.snapshots.left_out is 'Rows that could not be scored and were left out, by reason: {"missing_key": {"rows": 2, "examples": [...]}}. No values of sensitive columns.';

create or replace view public.nights as
select p.family, p.as_of, b.row_count as rows, p.batch_id, s.content_hash as snapshot, p.published_at,
       exists (select from nightshift.retirements t where t.ends > p.as_of) as retired,
       (select jsonb_object_agg(reason, told -> 'rows') from jsonb_each(s.left_out) o (reason, told)) as left_out
from nightshift.published p
join nightshift.batches b using (batch_id)
join nightshift.snapshots s using (snapshot_id);
comment on column public.nights.left_out is 'How many rows were left out for what was wrong with them, by reason, such as {"repeated_key": 2}; null where none was';

create table nightshift.labels_set_aside (
    family       text not null,
    entity_id    text not null,
    answers      timestamptz,
    value        text not null,
    event_at     timestamptz not null,
    stated_at    timestamptz not null,
    reason       text not null,
    collected_at timestamptz not null,
    unique nulls not distinct (family, entity_id, answers, stated_at, value)
);
create index on nightshift.labels_set_aside (family, collected_at);
comment on table nightshift.labels_set_aside is 'Labels of which an expectation of model.yaml does not hold: neither measured nor learnt from. One that becomes known later, and is as expected, counts as ever.';
comment on column nightshift.labels_set_aside.reason is 'The expectation that does not hold';
grant select, insert on nightshift.labels_set_aside to nightshift_writer;

alter table nightshift.label_collections add column set_aside bigint not null default 0;
comment on column nightshift.label_collections.set_aside is 'New labels of which an expectation does not hold.';

create or replace view public.contract as
select '2.1' as version;

-- The truth about a prediction, by one rule for whatever measures, compares or counts. Planned as if it stood in the query.
create function nightshift.truth(of_family text, entity text, night timestamptz, known_by timestamptz)
returns table (value text, known_at timestamptz)
language sql stable
as $$
    select (array_agg(l.value order by l.stated_at desc, l.known_at desc, l.value collate "C" desc))[1], min(l.known_at)
    from nightshift.labels l
    where l.family = of_family and l.entity_id = entity
      and (l.answers is null or l.answers = night)
      and l.known_at <= known_by
    having min(l.stated_at) > night  -- what was stated by the night is no truth about it: it could be known
$$;
comment on function nightshift.truth is 'The latest label of an entity known by a moment, and when its first one was known; none where one was stated by the night already.';
revoke execute on function nightshift.truth from public;
grant execute on function nightshift.truth to nightshift_writer;

create or replace function nightshift.labelled_rows(of_family text, since timestamptz, until timestamptz, known_by timestamptz)
returns table (
    as_of timestamptz, score double precision, batch_id int, version_id int, model_id int, flags smallint,
    role smallint, entity_id text, label text, value text)
language sql stable
as $$
    select r.as_of, r.score, r.batch_id, r.version_id, r.model_id, r.flags, r.role, r.entity_id, r.label, l.value
    from nightshift.published_rows(of_family, since, until) r
    left join lateral nightshift.truth(of_family, r.entity_id, r.as_of, known_by) l on true
$$;
