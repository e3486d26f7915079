-- Comparisons of several candidates, shadows, approvals, rollback, and entities that nothing may learn from.

-- Written by registry ------------------------------------------------------------------------

alter table nightshift.decisions
    drop constraint decisions_kind_check,
    add constraint decisions_kind_check check (kind in
        ('keep', 'alert', 'hold', 'defer', 'retrain', 'promote', 'reject', 'shadow', 'rollback'));

create table nightshift.collected_artifacts (
    artifact_hash text primary key,
    collected_at  timestamptz not null
);
comment on table nightshift.collected_artifacts is 'Artifacts whose file was deleted, because nothing refers to them or promotion.keep_versions has passed.';

-- Written by training ------------------------------------------------------------------------

alter table nightshift.comparisons
    add column decision_id int references nightshift.decisions,
    add column confidence double precision,
    add column candidates jsonb not null default '[]',
    add column slices jsonb not null default '[]',
    add column border_cases jsonb,
    add column champion_reference double precision,
    add column unscorable text,
    add column perfect double precision,
    add column baseline double precision,
    drop constraint comparisons_challenger_version_key;
update nightshift.comparisons c
set decision_id = v.decision_id
from nightshift.versions v
where v.version_id = c.challenger_version;
alter table nightshift.comparisons
    alter column decision_id set not null,
    add unique (decision_id);
create index on nightshift.comparisons (challenger_version);
comment on column nightshift.comparisons.decision_id is 'The decision to retrain that asked for it.';
comment on column nightshift.comparisons.challenger_version is 'The best of the candidates: the version just trained, or an earlier champion.';
comment on column nightshift.comparisons.confidence is 'Of the bound low: that of model.yaml, shared among the candidates.';
comment on column nightshift.comparisons.candidates is 'Every candidate with its value, difference and bound.';
comment on column nightshift.comparisons.slices is 'By slice: rows, difference, low and high.';
comment on column nightshift.comparisons.border_cases is 'The family''s border cases: rows, and what either version is worth on them.';
comment on column nightshift.comparisons.champion_reference is 'What the champion was worth when it was promoted.';
comment on column nightshift.comparisons.perfect is 'What the metric would be if every prediction were the truth.';
comment on column nightshift.comparisons.baseline is 'What the metric would be if every prediction were the same: the mean, or the commonest class.';
comment on column nightshift.comparisons.unscorable is 'Why the champion could not score the holdout; null where it could.';

create table nightshift.exclusions (
    exclusion_id int generated always as identity primary key,
    family       text not null,
    entity_id    text not null,
    state        text not null check (state in ('quarantined', 'erased', 'released')),
    reason       text not null,
    said_by      text not null,
    as_of        timestamptz not null,
    recorded_at  timestamptz not null
);
create index on nightshift.exclusions (family, entity_id, exclusion_id);
comment on table nightshift.exclusions is 'Entities that no version may learn from. Append-only: the latest row of an entity holds; erased is for good.';

-- Written by scoring -------------------------------------------------------------------------

alter table nightshift.prediction_rows add column role smallint not null default 0;
comment on column nightshift.prediction_rows.role is '0: what readers see. 1: a challenger in shadow, scored beside the champion.';

alter table nightshift.batches add column failed_rows bigint not null default 0;
comment on column nightshift.batches.failed_rows is 'Rows of the snapshot whose version could not be opened or failed; the night can be scored again.';

-- Written by trials --------------------------------------------------------------------------

create table nightshift.shadows (
    shadow_id   int generated always as identity primary key,
    model_id    int not null references nightshift.models,
    version_id  int not null references nightshift.versions,
    instead_of  int not null references nightshift.versions,
    decision_id int not null unique references nightshift.decisions,
    comparison_id int not null references nightshift.comparisons,
    starts      timestamptz not null,
    ends        timestamptz not null
);
create index on nightshift.shadows (model_id);
comment on table nightshift.shadows is 'Challengers that score beside the champion for a while. Over when a decision about ''shadow <id>'' was made.';
comment on column nightshift.shadows.comparison_id is 'What it proved to be put to the test; a promotion takes over its reference.';

create table nightshift.trials (
    model_id    int not null references nightshift.models,
    as_of       timestamptz not null,
    kind        text not null check (kind in ('shadow', 'probation')),
    older       int not null references nightshift.versions,
    newer       int not null references nightshift.versions,
    metric      text not null,
    nights      int not null,
    row_count   bigint not null,
    difference  double precision,
    evidence    double precision not null,
    needed      double precision not null,
    judged_at   timestamptz not null,
    primary key (model_id, as_of, kind, newer)
);
comment on table nightshift.trials is 'Two versions on the same matured nights, looked at every night: newer minus older, with the e-value gathered so far.';

create table nightshift.approvals (
    approval_id   int generated always as identity primary key,
    comparison_id int not null unique references nightshift.comparisons,
    evidence      text not null,
    evidence_hash text not null,
    asked_at      timestamptz not null
);
comment on table nightshift.approvals is 'What people were asked to approve, with the hash of the evidence they saw.';

create table nightshift.answers (
    approval_id   int primary key references nightshift.approvals,
    answer        text not null check (answer in ('approved', 'declined', 'timed_out', 'superseded')),
    said_by       text not null,
    evidence_hash text not null,
    decision_id   int not null references nightshift.decisions,
    answered_at   timestamptz not null
);
comment on table nightshift.answers is 'Who answered, what, and the hash of the evidence they saw. Append-only.';

-- Written by monitoring ----------------------------------------------------------------------

-- What thousands of models show at a glance: the month from the first index alone, the latest row from the others.
create index measurements_at_a_glance on nightshift.measurements (model_id, as_of) include (value)
    where decisive and basis = 'realized' and slice = '' and version_id is not null;
create index signals_at_alert on nightshift.signals (batch_id, model_id) where level = 'alert';
drop index nightshift.decisions_model_id_as_of_idx;
create index on nightshift.decisions (model_id, as_of, decision_id);

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
left join nightshift.models member on member.model_id = r.model_id
where r.role = 0;

-- Who may do what ----------------------------------------------------------------------------

grant select, insert on
    nightshift.collected_artifacts, nightshift.exclusions, nightshift.shadows, nightshift.trials,
    nightshift.approvals, nightshift.answers
    to nightshift_writer;
grant update (failed_rows) on nightshift.batches to nightshift_writer;
