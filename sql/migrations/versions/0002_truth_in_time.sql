-- Labels with two times, measurements by version and slice, families of many models, decisions in a chain.

-- Written by registry ------------------------------------------------------------------------

create table nightshift.memberships (
    model_id   int not null references nightshift.models,
    as_of      timestamptz not null,
    state      text not null check (state in ('active', 'retired')),
    group_name text,
    primary key (model_id, as_of)
);
comment on table nightshift.memberships is 'Which models a family had when, and in which group. Append-only: the latest row up to a moment holds then.';

alter table nightshift.decisions
    drop constraint decisions_kind_check,
    add constraint decisions_kind_check check (kind in
        ('keep', 'alert', 'hold', 'defer', 'retrain', 'promote', 'reject')),
    add column seq bigint,
    add column prev_hash text,
    add column hash text;

-- What one decision is hashed from: every column, moments in UTC to the microsecond, with the hash before it.
create function nightshift.decision_hash(d nightshift.decisions) returns text
language sql immutable parallel safe
return encode(sha256(convert_to(jsonb_build_array(
    d.prev_hash, d.seq, d.decision_id, d.model_id, d.kind, d.rule, d.reason,
    to_char(d.as_of at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), d.inputs, d.subject,
    to_char(d.decided_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US')
)::text, 'UTF8')), 'hex');

do $$
declare
    d nightshift.decisions;
    last_hash text := '';
    last_seq bigint := 0;
begin
    for d in select * from nightshift.decisions order by decision_id loop
        last_seq := last_seq + 1;
        d.seq := last_seq;
        d.prev_hash := last_hash;
        last_hash := nightshift.decision_hash(d);
        update nightshift.decisions
        set seq = last_seq, prev_hash = d.prev_hash, hash = last_hash
        where decision_id = d.decision_id;
    end loop;
end
$$;
alter table nightshift.decisions
    alter column seq set not null,
    alter column prev_hash set not null,
    alter column hash set not null,
    add unique (seq);
create index on nightshift.decisions (model_id, as_of);
create index on nightshift.decisions (as_of) where kind = 'retrain';

create function nightshift.chain_decision() returns trigger
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
    new.hash := nightshift.decision_hash(new);
    return new;
end
$$;
create trigger chain before insert on nightshift.decisions
    for each row execute function nightshift.chain_decision();
comment on column nightshift.decisions.seq is 'The place in the chain, without gaps.';
comment on column nightshift.decisions.prev_hash is 'The hash of the decision before this one; empty for the first.';
comment on column nightshift.decisions.hash is 'SHA-256 over this row and prev_hash, set by a trigger: whoever edits a row breaks the chain.';

alter table nightshift.promotions add column reference jsonb;
comment on column nightshift.promotions.reference is 'What the version was worth on rows it was not trained on: by metric value, error, spread; scores; calibration.';

-- Written by training ------------------------------------------------------------------------

alter table nightshift.comparisons add column reference jsonb;
comment on column nightshift.comparisons.reference is 'What the challenger was worth on the holdout; a promotion copies it.';

-- Written by scoring -------------------------------------------------------------------------

alter table nightshift.batches add column skipped_rows bigint not null default 0;
comment on column nightshift.batches.skipped_rows is 'Rows of the snapshot whose model had no champion, in a family without a fallback.';

alter table nightshift.prediction_rows add column model_id int;
comment on column nightshift.prediction_rows.model_id is 'Only where a fallback scored the row: the model that the row belongs to.';

create table nightshift.batch_models (
    batch_id   int not null references nightshift.batches,
    model_id   int not null references nightshift.models,
    version_id int references nightshift.versions,
    row_count  bigint not null,
    primary key (batch_id, model_id)
);
create index on nightshift.batch_models (model_id);
comment on table nightshift.batch_models is 'How many rows of a batch belong to each model, and which version scored them; null where none could.';

-- Written by labels --------------------------------------------------------------------------

alter table nightshift.labels add column stated_at timestamptz;
update nightshift.labels set stated_at = known_at;
alter table nightshift.labels
    alter column stated_at set not null,
    drop constraint labels_family_entity_id_answers_known_at_value_key,
    add unique nulls not distinct (family, entity_id, answers, stated_at, value);
comment on column nightshift.labels.known_at is 'When we could know the label: what the source stated, but never before a collection that did not find it.';
comment on column nightshift.labels.stated_at is 'When the source says that the label became known.';

create table nightshift.label_collections (
    collection_id  int generated always as identity primary key,
    family         text not null,
    since          timestamptz not null,
    as_of          timestamptz not null,
    found          bigint not null,
    added          bigint not null,
    duplicates     bigint not null,
    corrections    bigint not null,
    contradictions bigint not null,
    late           bigint not null,
    collected_at   timestamptz not null
);
create index on nightshift.label_collections (family, as_of);
comment on table nightshift.label_collections is 'What the source was asked, and what it gave. A label that it states inside a stretch asked before is late: it is known from this collection on.';
comment on column nightshift.label_collections.corrections is 'New rows for an entity whose earlier label said something else.';
comment on column nightshift.label_collections.contradictions is 'New rows that say something else than a label stated for the same moment.';

-- Written by monitoring ----------------------------------------------------------------------

alter table nightshift.measurements
    add column version_id int references nightshift.versions,
    add column slice text not null default '',
    add column basis text not null default 'realized' check (basis in ('realized', 'estimated')),
    add column method text not null default '',
    add column reference double precision,
    add column nights jsonb not null default '[]',
    add column decisive boolean not null default true,
    alter column threshold drop not null,
    drop constraint measurements_model_id_metric_as_of_key,
    add unique nulls not distinct (model_id, as_of, metric, basis, version_id, slice);
comment on column nightshift.measurements.version_id is 'Only rows that this version scored; null: of every version that served in the window.';
comment on column nightshift.measurements.slice is 'Only rows with this value of a column, as column=value; empty: all rows.';
comment on column nightshift.measurements.basis is 'realized: from labels; estimated: from calibrated scores, before any label.';
comment on column nightshift.measurements.method is 'How the interval was made: a formula, or a bootstrap with its seed.';
comment on column nightshift.measurements.reference is 'What the champion was worth when it was promoted.';
comment on column nightshift.measurements.decisive is 'Whether decisions look at this metric; the others are measured beside it.';
comment on column nightshift.measurements.nights is 'Night by night: as_of, predictions, labels, value, error. What the sequential detector reads.';

create table nightshift.signals (
    batch_id   int not null references nightshift.batches,
    model_id   int not null references nightshift.models,
    version_id int not null references nightshift.versions,
    signal     text not null check (signal in
        ('missing', 'unseen', 'out_of_range', 'drift', 'score_drift', 'estimated')),
    feature    text not null,
    value      double precision not null check (value <> 'NaN'),
    level      text not null check (level in ('ok', 'warn', 'alert')),
    row_count  bigint not null,
    watched_at timestamptz not null,
    primary key (batch_id, model_id, signal, feature)
);
create index on nightshift.signals (model_id);
comment on table nightshift.signals is 'Inputs and outputs against what the champion saw in training, the same night, before any label.';
comment on column nightshift.signals.value is 'A share of rows, a distance from 0 to 1, or (estimated) a fall of the metric.';

-- Written by database ------------------------------------------------------------------------

create table nightshift.alerts (
    alert_id  int generated always as identity primary key,
    family    text not null,
    cause     text not null,
    subject   text not null,
    message   text not null,
    raised_at timestamptz not null,
    unique (family, cause, subject)
);
comment on table nightshift.alerts is 'What people were told: one row for each cause, however many models it touches.';

create table nightshift.alert_deliveries (
    alert_id     int not null references nightshift.alerts,
    notifier     text not null,
    delivered_at timestamptz not null,
    primary key (alert_id, notifier)
);
comment on table nightshift.alert_deliveries is 'Which notifier has delivered which alert.';

-- What downstream reads ----------------------------------------------------------------------

create or replace view public.predictions as
select r.entity_id,
       b.family,
       coalesce(member.name, m.name) as model,
       b.as_of,
       r.score,
       r.label,
       array_remove(array[
           case when r.flags & 1 <> 0 then 'unseen_category' end,
           case when r.flags & 2 <> 0 then 'out_of_range' end,
           case when r.model_id is not null then 'fallback' end
       ], null) as flags,
       v.number as model_version,
       s.content_hash as snapshot,
       b.batch_id,
       p.published_at
from nightshift.published p
join nightshift.batches b using (batch_id)
join nightshift.snapshots s using (snapshot_id)
join nightshift.prediction_rows r using (batch_id)
join nightshift.versions v using (version_id)
join nightshift.models m on m.model_id = v.model_id
left join nightshift.models member on member.model_id = r.model_id;
comment on column public.predictions.model is 'The model that the entity belongs to';
comment on column public.predictions.flags is 'unseen_category: a category not seen in training; out_of_range: a number outside the training range; fallback: the model of the whole family scored the row';
comment on column public.predictions.model_version is 'The version number of the model that made the row; with the flag fallback, of the model of the whole family';

create or replace view public.performance as
select m.family, m.name as model, x.metric, x.as_of, x.window_start, x.window_end,
       x.state, x.value, x.low, x.high, x.threshold,
       x.predictions, x.labels,
       x.basis, v.number as model_version, x.slice, x.reference, x.method, x.decisive
from nightshift.measurements x
join nightshift.models m using (model_id)
left join nightshift.versions v using (version_id);
comment on column public.performance.basis is 'realized: from labels; estimated: from calibrated scores, before any label';
comment on column public.performance.model_version is 'Only rows that this version scored; null: of every version that served in the window';
comment on column public.performance.decisive is 'Whether decisions look at this metric; the others are measured beside it';
comment on column public.performance.slice is 'Only rows with this value of a column, as column=value; empty: all rows';

create view public.signals as
select m.family, m.name as model, b.as_of, s.signal, s.feature, s.value, s.level, s.row_count,
       v.number as model_version
from nightshift.signals s
join nightshift.batches b using (batch_id)
join nightshift.models m using (model_id)
join nightshift.versions v using (version_id);
comment on view public.signals is 'Inputs and outputs of each night against what the champion saw in training, before any label.';

create view public.models as
select m.family, m.name as model, n.group_name, n.state, n.as_of as since
from nightshift.models m
join lateral (
    select * from nightshift.memberships where model_id = m.model_id order by as_of desc limit 1
) n on true;
comment on view public.models is 'Every model with its group, active or retired.';

-- Who may do what ----------------------------------------------------------------------------

grant select, insert on
    nightshift.memberships, nightshift.batch_models, nightshift.label_collections, nightshift.signals,
    nightshift.alerts, nightshift.alert_deliveries
    to nightshift_writer;
grant update (skipped_rows) on nightshift.batches to nightshift_writer;
grant select on public.signals, public.models to nightshift_reader, nightshift_writer;
