-- The tables of the nightly loop. Migrations run as nightshift_owner, which owns everything and which nobody logs in as.
-- Tables live in the schema nightshift, which readers cannot enter; what they may read are views in public.

-- Written by registry ------------------------------------------------------------------------

create table nightshift.models (
    model_id   int generated always as identity primary key,
    family     text not null,
    name       text not null,
    created_at timestamptz not null,
    unique (family, name)
);
comment on table nightshift.models is 'The members of every family; a family without members has one, named as the family.';

-- Written by snapshots -----------------------------------------------------------------------

create table nightshift.snapshots (
    snapshot_id  int generated always as identity primary key,
    family       text not null,
    as_of        timestamptz not null,
    revision     int not null,
    content_hash text not null check (content_hash ~ '^[0-9a-f]{64}$'),
    row_count    bigint not null,
    dropped_rows bigint not null,
    query_hash   text not null,
    taken_at     timestamptz not null,
    unique (family, as_of, revision)
);
comment on table nightshift.snapshots is 'Rows frozen at an as_of: a Parquet file in the store, named by its content hash, taken once.';
comment on column nightshift.snapshots.revision is 'Above 1 only where validation rejected the one before and the source was mended.';
comment on column nightshift.snapshots.dropped_rows is 'Rows that the query returned although they were known only after as_of; they are not in the file.';

-- Written by validation ----------------------------------------------------------------------

create table nightshift.validations (
    validation_id int generated always as identity primary key,
    snapshot_id   int not null references nightshift.snapshots,
    rules_hash    text not null,
    verdict       text not null check (verdict in ('passed', 'warned', 'rejected')),
    checks        jsonb not null,
    validated_at  timestamptz not null
);
create index on nightshift.validations (snapshot_id);
comment on table nightshift.validations is 'The verdict on one snapshot, check by check. The latest row counts.';
comment on column nightshift.validations.rules_hash is 'What was expected: the same snapshot is judged once by the same rules.';

-- Written by registry --------------- ---------------------------------------------------------

create table nightshift.decisions (
    decision_id int generated always as identity primary key,
    model_id    int not null references nightshift.models,
    kind        text not null check (kind in ('keep', 'alert', 'retrain', 'promote', 'reject')),
    rule        text not null,
    reason      text not null,
    as_of       timestamptz not null,
    inputs      jsonb not null,
    subject     text not null,
    decided_at  timestamptz not null,
    unique (model_id, subject)
);
comment on table nightshift.decisions is 'What a policy concluded and why. Append-only.';
comment on column nightshift.decisions.subject is 'What was decided about: deciding twice about one subject is deciding once.';

-- Written by registry ------------------------------------------------------------------------

create table nightshift.versions (
    version_id    int generated always as identity primary key,
    model_id      int not null references nightshift.models,
    number        int not null,
    artifact_hash text not null check (artifact_hash ~ '^[0-9a-f]{64}$'),
    signature     bytea not null,
    manifest      jsonb not null,
    decision_id   int not null references nightshift.decisions,
    trained_at    timestamptz not null,
    unique (model_id, number),
    unique (decision_id)
);
comment on table nightshift.versions is 'Trained artifacts: joblib files in the store, named by content hash and signed. One decision trains one version.';

create table nightshift.comparisons (
    comparison_id      int generated always as identity primary key,
    challenger_version int not null unique references nightshift.versions,
    champion_version   int references nightshift.versions,
    metric             text not null,
    holdout_start      timestamptz not null,
    holdout_end        timestamptz not null,
    row_count          bigint not null,
    champion_value     double precision,
    challenger_value   double precision,
    difference         double precision,
    low                double precision,
    compared_at        timestamptz not null
);
comment on table nightshift.comparisons is 'Champion and challenger on the same later rows. difference is challenger minus champion, greater is better.';

create table nightshift.promotions (
    model_id       int not null references nightshift.models,
    seq            int not null,
    version_id     int not null references nightshift.versions,
    decision_id    int not null references nightshift.decisions,
    effective_from timestamptz not null,
    promoted_at    timestamptz not null,
    primary key (model_id, seq)
);
comment on table nightshift.promotions is 'Append-only: the latest row effective at a moment is the champion at that moment. Two racers cannot both take a seq.';

-- Written by scoring -------------------------------------------------------------------------

create table nightshift.batches (
    batch_id    int generated always as identity primary key,
    family      text not null,
    as_of       timestamptz not null,
    snapshot_id int not null references nightshift.snapshots,
    version_ids int[] not null,
    row_count   bigint,
    state       text not null check (state in ('writing', 'written', 'abandoned')),
    started_at  timestamptz not null,
    written_at  timestamptz,
    purged_at   timestamptz
);
create index on nightshift.batches (family, as_of);
comment on table nightshift.batches is 'One family''s predictions for one as_of: written first, published by a pointer.';

create table nightshift.prediction_rows (
    batch_id   int not null,
    version_id int not null,
    entity_id  text not null,
    score      double precision not null,
    label      text,
    flags      smallint not null
);
create index on nightshift.prediction_rows (batch_id);
create index on nightshift.prediction_rows (entity_id);
comment on table nightshift.prediction_rows is 'Narrow on purpose: what is constant for a batch lives in batches. Rows of unpublished batches are here too; read the view.';

create table nightshift.published (
    family       text not null,
    as_of        timestamptz not null,
    batch_id     int not null references nightshift.batches,
    published_at timestamptz not null,
    primary key (family, as_of)
);
create unique index on nightshift.published (batch_id);
comment on table nightshift.published is 'The pointer readers follow: one batch for each family and as_of. It never goes back to an older batch.';

-- Written by labels --------------------------------------------------------------------------

create table nightshift.labels (
    label_id     bigint generated always as identity primary key,
    family       text not null,
    entity_id    text not null,
    answers      timestamptz,
    value        text not null,
    event_at     timestamptz not null,
    known_at     timestamptz not null,
    collected_at timestamptz not null,
    unique nulls not distinct (family, entity_id, answers, known_at, value)
);
create index on nightshift.labels (family, known_at);
comment on table nightshift.labels is 'The truth about entities, append-only; a correction is a new row with a later known_at, and the latest known wins.';
comment on column nightshift.labels.answers is 'The as_of that the label answers, where an entity is scored night after night; null where it is scored once.';

-- Written by monitoring ----------------------------------------------------------------------

create table nightshift.measurements (
    measurement_id int generated always as identity primary key,
    model_id       int not null references nightshift.models,
    metric         text not null,
    as_of          timestamptz not null,
    window_start   timestamptz not null,
    window_end     timestamptz not null,
    state          text not null check (state in ('measured', 'breached', 'immature', 'undefined')),
    value          double precision,
    low            double precision,
    high           double precision,
    predictions    bigint not null,
    labels         bigint not null,
    threshold      double precision not null,
    measured_at    timestamptz not null,
    unique (model_id, metric, as_of),
    check ((state in ('measured', 'breached')) = (value is not null)),
    check (value <> 'NaN')
);
comment on table nightshift.measurements is 'A metric over a window of matured nights, as it was known at as_of. Greater is better, as scikit-learn''s scorers have it.';

-- Written by database ------------------------------------------------------------------------

create table nightshift.events (
    event_id    bigint generated always as identity primary key,
    happened_at timestamptz not null,
    code        text not null,
    family      text,
    as_of       timestamptz,
    detail      jsonb not null
);
create index on nightshift.events (family, happened_at);
comment on table nightshift.events is 'The audit trail: what was published, promoted, refused, purged, and why. Append-only.';

-- What downstream reads ----------------------------------------------------------------------

create view public.predictions as
select r.entity_id,
       b.family,
       m.name as model,
       b.as_of,
       r.score,
       r.label,
       array_remove(array[
           case when r.flags & 1 <> 0 then 'unseen_category' end,
           case when r.flags & 2 <> 0 then 'out_of_range' end
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
join nightshift.models m using (model_id);
comment on view public.predictions is 'Published predictions: one row for each entity and as_of of a family, never half a night.';
comment on column public.predictions.entity_id is 'The entity scored, as features.sql names it';
comment on column public.predictions.as_of is 'The moment (UTC) that the prediction claims to know; nothing known later touched it';
comment on column public.predictions.score is 'Regression: the value. Binary: the probability of the positive class. Multiclass: the probability of label';
comment on column public.predictions.label is 'Classification: the predicted class. Regression: null';
comment on column public.predictions.flags is 'unseen_category: a category not seen in training; out_of_range: a number outside the training range';
comment on column public.predictions.model_version is 'The version number of the model that made the row';
comment on column public.predictions.snapshot is 'SHA-256 of the Parquet file of features the row was computed from';
comment on column public.predictions.batch_id is 'The batch the row belongs to; rows of one as_of of a family share it';

create view public.champions as
select distinct on (m.model_id)
       m.family,
       m.name as model,
       v.number as model_version,
       v.artifact_hash as artifact,
       p.effective_from,
       p.promoted_at,
       d.reason
from nightshift.promotions p
join nightshift.models m using (model_id)
join nightshift.versions v using (version_id)
join nightshift.decisions d on d.decision_id = p.decision_id
order by m.model_id, p.seq desc;
comment on view public.champions is 'The version that serves, for each model.';

create view public.performance as
select m.family, m.name as model, x.metric, x.as_of, x.window_start, x.window_end,
       x.state, x.value, x.low, x.high, x.threshold,
       x.predictions, x.labels
from nightshift.measurements x
join nightshift.models m using (model_id);
comment on view public.performance is 'Every measurement: a metric over matured nights, as it was known at as_of. Greater is better.';

create view public.decisions as
select d.decision_id, m.family, m.name as model, d.kind, d.rule, d.reason, d.as_of, d.decided_at
from nightshift.decisions d
join nightshift.models m using (model_id);
comment on view public.decisions is 'What was decided about each model, and why.';

-- Who may do what ----------------------------------------------------------------------------

grant usage on schema nightshift to nightshift_writer;
grant select, insert on
    nightshift.models, nightshift.snapshots, nightshift.validations, nightshift.decisions, nightshift.versions,
    nightshift.comparisons, nightshift.promotions, nightshift.batches, nightshift.prediction_rows,
    nightshift.published, nightshift.labels, nightshift.measurements, nightshift.events
    to nightshift_writer;
grant update (row_count, state, written_at, purged_at) on nightshift.batches to nightshift_writer;
grant update (batch_id, published_at) on nightshift.published to nightshift_writer;
grant delete on nightshift.prediction_rows to nightshift_writer;
grant select on public.predictions, public.champions, public.performance, public.decisions
    to nightshift_reader, nightshift_writer;
