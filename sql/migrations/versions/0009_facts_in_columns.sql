-- What was written for people is never read back: what a decision is about, and what the policy knew, are columns.

-- Written by registry ------------------------------------------------------------------------

alter table nightshift.decisions
    add column about         text,
    add column about_id      bigint,
    add column severity      double precision not null default 0 check (severity <> 'NaN'),
    add column alarming      boolean not null default false,
    add column falling_since timestamptz,
    add column hash_rule     smallint not null default 1 check (hash_rule in (1, 2)),
    drop constraint decisions_kind_check,
    add constraint decisions_kind_check check (kind in
        ('keep', 'alert', 'wait', 'ask', 'held', 'defer', 'retrain', 'promote', 'reject', 'shadow', 'rollback'))
        not valid;
alter table nightshift.decisions alter column hash_rule set default 2;

-- What the first rows are about, out of the words that were all they had; reports/chain.py verifies it.
create function nightshift.about_of(subject text, out about text, out about_id bigint)
language sql immutable parallel safe
return (
    case when subject ~ '^(comparison|shadow|approval) [0-9]+$' then substring(subject from '^[a-z]+')
         when subject ~ '^promote [0-9]+: ' then 'version'
         when subject ~ '^probation [0-9]+ of promotion [0-9]+$' then 'probation'
         when subject ~ '^(monitor|request|rollback) ' then substring(subject from '^[a-z]+')
         else 'other' end,
    case when subject ~ '^(comparison|shadow|approval) [0-9]+$' or subject ~ '^promote [0-9]+: '
             then cast(substring(subject from '^[a-z]+ ([0-9]+)') as bigint)
         when subject ~ '^probation [0-9]+ of promotion [0-9]+$'
             then cast(substring(subject from '([0-9]+)$') as bigint) end
);

-- One word had three meanings.
create function nightshift.kind_of(kind text, rule text, about text) returns text
language sql immutable parallel safe
return case when kind <> 'hold' then kind
            when about in ('comparison', 'shadow') then 'ask'
            when rule = 'held' then 'held'
            else 'wait' end;

update nightshift.decisions d
set about = told.about,
    about_id = told.about_id,
    kind = nightshift.kind_of(d.kind, d.rule, told.about)
from nightshift.decisions was
cross join lateral nightshift.about_of(was.subject) told
where was.decision_id = d.decision_id;
drop function nightshift.about_of;
drop function nightshift.kind_of;

update nightshift.decisions d
set severity = greatest(coalesce(f.short, 0), coalesce(f.evidence / f.most, 0)),
    alarming = d.kind <> 'keep' and (
        f.state = 'breached'
        or coalesce(f.state in ('measured', 'breached') and f.evidence >= f.most, false)
        or starts_with(coalesce(d.inputs ->> 'asked_by', d.rule), 'signal ')
        or coalesce(d.inputs -> 'votes' ->> m.name = 'fail', false)),
    falling_since = case when f.state in ('measured', 'breached') and f.evidence >= f.most then f.since end
from (
    select decision_id,
           inputs #>> '{measurements,0,state}' as state,
           (cast(inputs #>> '{measurements,0,threshold}' as double precision)
            - cast(inputs #>> '{measurements,0,value}' as double precision))
           / greatest((cast(inputs #>> '{measurements,0,high}' as double precision)
                       - cast(inputs #>> '{measurements,0,low}' as double precision)) / 3.92, 1e-12) as short,
           cast(inputs #>> '{shift,evidence}' as double precision) as evidence,
           nullif(cast(inputs #>> '{shift,limit}' as double precision), 0) as most,
           cast(inputs #>> '{shift,since}' as timestamptz) as since
    from nightshift.decisions
    where about = 'monitor' and jsonb_array_length(coalesce(inputs -> 'measurements', '[]')) > 0
) f, nightshift.models m
where f.decision_id = d.decision_id and m.model_id = d.model_id;

-- The second rule hashes the columns too; the first goes on telling whether the first rows are as they were made.
create or replace function nightshift.decision_hash(d nightshift.decisions) returns text
language sql immutable parallel safe
return encode(sha256(convert_to(case d.hash_rule
    when 1 then jsonb_build_array(
        d.prev_hash, d.seq, d.decision_id, d.model_id,
        case when d.kind in ('wait', 'ask', 'held') then 'hold' else d.kind end, d.rule, d.reason,
        to_char(d.as_of at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), d.inputs, d.subject,
        to_char(d.decided_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'))
    else jsonb_build_array(
        d.prev_hash, d.seq, d.decision_id, d.model_id, d.kind, d.rule, d.reason,
        to_char(d.as_of at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), d.inputs, d.subject,
        to_char(d.decided_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'),
        d.hash_rule, d.about, d.about_id, d.severity, d.alarming,
        to_char(d.falling_since at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'))
    end::text, 'UTF8')), 'hex');

create or replace function nightshift.chain_decision() returns trigger
language plpgsql set search_path = pg_catalog
as $$
declare
    last nightshift.decisions;
begin
    -- One at a time: the next row must know the hash of this one.
    perform pg_advisory_xact_lock(hashtext('nightshift.decisions'));
    select * into last from nightshift.decisions order by seq desc limit 1;
    new.seq := coalesce(last.seq, 0) + 1;
    new.prev_hash := coalesce(last.hash, '');
    new.hash_rule := 2;
    new.hash := nightshift.decision_hash(new);
    return new;
end
$$;

alter table nightshift.decisions
    alter column about set not null,
    add constraint decisions_about_check check (about in
        ('monitor', 'request', 'rollback', 'version', 'comparison', 'shadow', 'probation', 'approval', 'other')),
    add constraint decisions_about_id_check check (
        (about_id is not null) = (about in ('version', 'comparison', 'shadow', 'probation', 'approval'))),
    validate constraint decisions_kind_check;
create index on nightshift.decisions (about, about_id) where about_id is not null;
comment on column nightshift.decisions.subject is 'What was decided about, in words. Deciding twice about one subject is deciding once; nothing else reads it.';
comment on column nightshift.decisions.about is 'What was decided about: a measuring, a request or a rollback that somebody asked for, a version by hand, a comparison, a shadow, a probation, an approval.';
comment on column nightshift.decisions.about_id is 'Which one: version_id, comparison_id, shadow_id, approval_id; of a probation the seq of the model''s promotion.';
comment on column nightshift.decisions.severity is 'How many standard errors, or limits of the detector, the model lies below its threshold; 0 where that is not told.';
comment on column nightshift.decisions.alarming is 'Whether a measuring has found the model below its threshold, or a rule of retrain.when has fired.';
comment on column nightshift.decisions.falling_since is 'Since which night the detector says that the model has fallen; null where it does not.';
comment on column nightshift.decisions.hash_rule is '1: made before these columns were, which its hash leaves out, with hold for wait, ask and held. 2: every column.';
comment on column nightshift.decisions.hash is 'SHA-256 over this row and prev_hash, set by a trigger: whoever edits a row breaks the chain.';
comment on function nightshift.decision_hash is 'What a decision''s hash must be: of every column, moments in UTC to the microsecond, with the hash before it.';
comment on function nightshift.chain_decision is 'Give a new decision its place in the chain, and its hash.';
comment on table nightshift.shadows is 'Challengers that score beside the champion for a while. Over when a decision about the shadow was made.';

-- Written by reports -------------------------------------------------------------------------

alter table nightshift.alerts add column title text, add column as_of timestamptz;
update nightshift.alerts
set title = concat_ws(': ', split_part(message, ': ', 1), nullif(split_part(message, ': ', 2), '')),
    as_of = case when subject ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[^ ]+'
                 then cast(split_part(subject, ' ', 1) as timestamptz) else raised_at end;
alter table nightshift.alerts alter column title set not null, alter column as_of set not null;
comment on column nightshift.alerts.subject is 'What sets this alert apart from others of its cause: the same one is raised once. Nothing else reads it.';
comment on column nightshift.alerts.title is 'The family and what happened, in a few words; the message begins with it.';
comment on column nightshift.alerts.as_of is 'The night, or the moment of measuring, that it is about.';

-- The same look-up for whoever asks: planned as if it stood in the query that calls it. ------

create function nightshift.labelled_rows(of_family text, since timestamptz, until timestamptz, known_by timestamptz)
returns table (
    as_of timestamptz, score double precision, batch_id int, version_id int, model_id int, flags smallint,
    role smallint, entity_id text, label text, value text)
language sql stable
as $$
    select r.as_of, r.score, r.batch_id, r.version_id, r.model_id, r.flags, r.role, r.entity_id, r.label, l.value
    from nightshift.published_rows(of_family, since, until) r
    left join lateral (
        select l.value
        from nightshift.labels l
        where l.family = of_family
          and l.entity_id = r.entity_id
          and (l.answers is null or l.answers = r.as_of)
          and l.known_at <= known_by
        order by l.stated_at desc, l.known_at desc, l.value collate "C" desc
        limit 1
    ) l on true
$$;
comment on function nightshift.labelled_rows is 'The rows of a family''s published nights in (since, until], each with its latest label known by a moment; null where there is none.';
revoke execute on function nightshift.labelled_rows from public;
grant execute on function nightshift.labelled_rows to nightshift_writer;

-- What downstream reads ----------------------------------------------------------------------

create or replace view public.contract as
select '2.0' as version;
comment on column public.decisions.kind is 'keep, alert, wait (its group cannot be decided yet), ask (a person is asked), held (the family is), defer, retrain, promote, reject, shadow or rollback';
