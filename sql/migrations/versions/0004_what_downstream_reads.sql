-- What downstream reads: views as a contract with a version, one typed view for each family, rows in months.

-- Written by scoring -------------------------------------------------------------------------

drop view public.predictions;
alter table nightshift.prediction_rows rename to prediction_rows_before;

-- Ordered by width: what is fixed comes first, so that no byte is lost to alignment.
create table nightshift.prediction_rows (
    as_of      timestamptz not null,
    score      double precision not null,
    batch_id   int not null,
    version_id int not null,
    model_id   int not null,
    flags      smallint not null,
    role       smallint not null default 0,
    entity_id  text not null,
    label      text
) partition by range (as_of);
comment on table nightshift.prediction_rows is 'Narrow on purpose: what is constant for a batch lives in batches. One partition a month (UTC) of as_of. Rows of unpublished batches are here too; read the view.';
comment on column nightshift.prediction_rows.as_of is 'That of the batch, repeated: it finds the partition.';
comment on column nightshift.prediction_rows.model_id is 'The model that the row belongs to; where a fallback scored it, not that of the version.';
comment on column nightshift.prediction_rows.role is '0: what readers see. 1: a challenger in shadow, scored beside the champion.';

create table nightshift.retirements (
    month      date primary key,
    ends       timestamptz not null,
    retired_at timestamptz not null
);
comment on table nightshift.retirements is 'Months whose prediction rows were dropped, because keep_predictions had passed. Append-only; nights before the latest end have no rows.';

-- The writer owns nothing, so what makes and drops partitions and views runs as their owner. --

create function nightshift.open_month(moment timestamptz) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    starts timestamp := date_trunc('month', moment at time zone 'UTC');
    month  text := 'prediction_rows_' || to_char(starts, 'YYYY_MM');
begin
    if exists (select from nightshift.retirements where ends > moment) then
        return false;
    end if;
    if to_regclass('nightshift.' || month) is not null then
        return true;
    end if;
    -- Two first nights of a month may begin together. Whoever waited asks the table: what names are
    -- known to this session (to_regclass) is as old as its last statement.
    perform pg_advisory_xact_lock(hashtext('nightshift.prediction_rows'));
    if not exists (select from pg_class where relname = month and relnamespace = 'nightshift'::regnamespace) then
        -- Made apart and then attached: "partition of" would lock every reader out.
        execute format('create table nightshift.%I (like nightshift.prediction_rows including all)', month);
        execute format('comment on table nightshift.%I is %L', month,
                       'Predictions of the nights of ' || to_char(starts, 'FMMonth YYYY') || ' (UTC).');
        execute format('alter table nightshift.prediction_rows attach partition nightshift.%I for values from (%L) to (%L)',
                       month, starts::text || '+00', (starts + interval '1 month')::text || '+00');
    end if;
    return true;
end
$$;
comment on function nightshift.open_month is 'Make the partition of a moment''s month unless it is there; false where the month was retired.';

create function nightshift.retire_month(before timestamptz, now timestamptz) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '300ms'
as $$
declare
    part record;
begin
    select c.relname, (to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month') at time zone 'UTC' as ends
    into part
    from pg_inherits i
    join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'nightshift.prediction_rows'::regclass
    order by c.relname
    limit 1;
    if part.ends is null or part.ends > before then
        return 'none';
    end if;
    -- New readers queue behind this lock, so it is not waited for any longer than lock_timeout.
    execute format('drop table nightshift.%I', part.relname);
    insert into nightshift.retirements (month, ends, retired_at)
    values (part.ends - interval '1 month', part.ends, now);
    return part.relname;
exception when lock_not_available then
    return 'busy';
end
$$;
comment on function nightshift.retire_month is 'Drop the oldest month of prediction rows if it ends by a moment: its table''s name, none, or busy where a reader would have to be waited for.';

do $$
declare
    moment timestamptz;
begin
    for moment in select distinct date_trunc('month', as_of, 'UTC') from nightshift.batches loop
        perform nightshift.open_month(moment);
    end loop;
end
$$;
insert into nightshift.prediction_rows (as_of, score, batch_id, version_id, model_id, flags, role, entity_id, label)
select b.as_of, r.score, r.batch_id, r.version_id, coalesce(r.model_id, v.model_id), r.flags, r.role, r.entity_id, r.label
from nightshift.prediction_rows_before r
join nightshift.batches b using (batch_id)
join nightshift.versions v using (version_id)
order by b.as_of, r.batch_id, r.entity_id;
drop table nightshift.prediction_rows_before;
create index on nightshift.prediction_rows (batch_id);
-- Holds all that finding an entity's newest night takes: the rows of its other nights are not opened.
create index on nightshift.prediction_rows (entity_id, as_of desc) include (batch_id, model_id) where role = 0;
analyze nightshift.prediction_rows;

-- What downstream reads ----------------------------------------------------------------------

create view public.contract as
select '1.0' as version;
comment on view public.contract is 'The version of what readers may rely on: these views, their columns, and the notification nightshift_published.';
comment on column public.contract.version is 'Its first number grows when something that readers use changes or goes, its second when something is added';

create view public.predictions as
select r.entity_id,
       p.family,
       m.name as model,
       p.as_of,
       r.score,
       r.label,
       case when r.flags = 0 and r.model_id = v.model_id then '{}' else array_remove(array[
           case when r.flags & 1 <> 0 then 'unseen_category' end,
           case when r.flags & 2 <> 0 then 'out_of_range' end,
           case when r.model_id <> v.model_id then 'fallback' end
       ], null) end as flags,
       v.number as model_version,
       s.content_hash as snapshot,
       p.batch_id,
       p.published_at
from nightshift.published p
join nightshift.batches b using (batch_id)
join nightshift.snapshots s using (snapshot_id)
join nightshift.prediction_rows r on r.batch_id = p.batch_id and r.as_of = p.as_of
join nightshift.models m using (model_id)
join nightshift.versions v using (version_id)
where r.role = 0;
comment on view public.predictions is 'Published predictions: one row for each entity and as_of of a family, never half a night.';
comment on column public.predictions.entity_id is 'The entity scored, as features.sql names it';
comment on column public.predictions.family is 'The family of models';
comment on column public.predictions.model is 'The model that the entity belongs to; in a family of one model, its name is the family''s';
comment on column public.predictions.as_of is 'The moment (UTC) that the prediction claims to know; nothing known later touched it';
comment on column public.predictions.score is 'Regression: the value. Binary: the probability of the positive class. Multiclass: the probability of label';
comment on column public.predictions.label is 'Classification: the predicted class. Regression: null';
comment on column public.predictions.flags is 'unseen_category: a category not seen in training; out_of_range: a number outside the training range; fallback: the model of the whole family scored the row';
comment on column public.predictions.model_version is 'The version number of the model that made the row; with the flag fallback, of the model of the whole family';
comment on column public.predictions.snapshot is 'SHA-256 of the Parquet file of features the row was computed from';
comment on column public.predictions.batch_id is 'The batch the row belongs to; rows of one as_of of a family share it';
comment on column public.predictions.published_at is 'When readers saw the batch first';

-- The inner query asks for what the index holds; only the newest row of each is opened.
create view public.predictions_latest as
select l.entity_id, l.family, m.name as model, l.as_of, r.score, r.label,
       case when r.flags = 0 and r.model_id = v.model_id then '{}' else array_remove(array[
           case when r.flags & 1 <> 0 then 'unseen_category' end,
           case when r.flags & 2 <> 0 then 'out_of_range' end,
           case when r.model_id <> v.model_id then 'fallback' end
       ], null) end as flags,
       v.number as model_version,
       (select s.content_hash from nightshift.batches b join nightshift.snapshots s using (snapshot_id)
        where b.batch_id = l.batch_id) as snapshot,
       l.batch_id,
       l.published_at
from (
    select distinct on (p.family, r.model_id, r.entity_id)
           p.family, r.model_id, r.entity_id, r.as_of, r.batch_id, p.published_at
    from nightshift.published p
    join nightshift.prediction_rows r on r.batch_id = p.batch_id and r.as_of = p.as_of
    where r.role = 0
    order by p.family, r.model_id, r.entity_id, r.as_of desc
) l
join nightshift.models m on m.model_id = l.model_id
join nightshift.prediction_rows r
  on r.entity_id = l.entity_id and r.as_of = l.as_of and r.batch_id = l.batch_id and r.role = 0
join nightshift.versions v on v.version_id = r.version_id;
comment on view public.predictions_latest is 'The newest published prediction of each model and entity. Ask for entities: without any, all nights are read.';
comment on column public.predictions_latest.entity_id is 'As in predictions';
comment on column public.predictions_latest.family is 'As in predictions';
comment on column public.predictions_latest.model is 'As in predictions; an entity that has changed its model has a row for each';
comment on column public.predictions_latest.as_of is 'The newest published as_of of this model and entity, whichever night that was';
comment on column public.predictions_latest.score is 'As in predictions';
comment on column public.predictions_latest.label is 'As in predictions';
comment on column public.predictions_latest.flags is 'As in predictions';
comment on column public.predictions_latest.model_version is 'As in predictions';
comment on column public.predictions_latest.snapshot is 'As in predictions';
comment on column public.predictions_latest.batch_id is 'As in predictions';
comment on column public.predictions_latest.published_at is 'As in predictions';

create view public.nights as
select p.family, p.as_of, b.row_count as rows, p.batch_id, s.content_hash as snapshot, p.published_at,
       exists (select from nightshift.retirements t where t.ends > p.as_of) as retired
from nightshift.published p
join nightshift.batches b using (batch_id)
join nightshift.snapshots s using (snapshot_id);
comment on view public.nights is 'Every night that was published: one row for each family and as_of.';
comment on column public.nights.family is 'The family of models';
comment on column public.nights.as_of is 'The moment (UTC) that the night''s predictions claim to know';
comment on column public.nights.rows is 'How many predictions readers see, or saw before they were retired';
comment on column public.nights.batch_id is 'The batch that readers see; a larger one replaces it when a night is scored again';
comment on column public.nights.snapshot is 'SHA-256 of the Parquet file of features the night was computed from';
comment on column public.nights.published_at is 'When readers saw the batch first';
comment on column public.nights.retired is 'Whether its predictions were dropped, because keep_predictions had passed';

comment on column public.champions.family is 'The family of models';
comment on column public.champions.model is 'The model; in a family of one model, its name is the family''s';
comment on column public.champions.model_version is 'The version number that serves';
comment on column public.champions.artifact is 'SHA-256 of the trained pipeline''s bytes';
comment on column public.champions.effective_from is 'The first as_of (UTC) that this version scores';
comment on column public.champions.promoted_at is 'When it was promoted';
comment on column public.champions.reason is 'Why it was promoted, in a sentence with figures';

comment on column public.performance.family is 'The family of models';
comment on column public.performance.model is 'The model that was measured';
comment on column public.performance.metric is 'A scikit-learn scorer''s name; greater is better';
comment on column public.performance.as_of is 'The moment (UTC) of measuring: later labels do not count';
comment on column public.performance.window_start is 'Nights after this moment were measured';
comment on column public.performance.window_end is 'Nights up to this moment were measured; later ones had not matured';
comment on column public.performance.state is 'measured; breached: the whole interval lies below threshold; immature: too few labels; undefined: the metric has no value on these rows';
comment on column public.performance.value is 'The metric; null where immature or undefined';
comment on column public.performance.low is 'The lower end of its interval';
comment on column public.performance.high is 'The upper end of its interval';
comment on column public.performance.threshold is 'What value should not fall below; null where none is set';
comment on column public.performance.predictions is 'Predictions of the window''s nights';
comment on column public.performance.labels is 'How many of them had a label';
comment on column public.performance.reference is 'What the champion was worth when it was promoted';
comment on column public.performance.method is 'How the interval was made: a formula, or a bootstrap with its seed';

comment on column public.decisions.decision_id is 'Which decision; commands and alerts name it';
comment on column public.decisions.family is 'The family of models';
comment on column public.decisions.model is 'The model that was decided about';
comment on column public.decisions.kind is 'keep, alert, hold, defer, retrain, promote, reject, shadow or rollback';
comment on column public.decisions.rule is 'The rule that decided';
comment on column public.decisions.reason is 'Why, in a sentence with figures';
comment on column public.decisions.as_of is 'The moment (UTC) as of which it was decided';
comment on column public.decisions.decided_at is 'When it was decided';

comment on column public.signals.family is 'The family of models';
comment on column public.signals.model is 'The model whose rows were watched';
comment on column public.signals.as_of is 'The night (UTC) that was watched';
comment on column public.signals.signal is 'missing, unseen, out_of_range, drift, score_drift or estimated';
comment on column public.signals.feature is 'Which feature; empty where the signal is about scores';
comment on column public.signals.value is 'A share of rows, a distance from 0 to 1, or (estimated) a fall of the metric';
comment on column public.signals.level is 'ok, warn or alert, by the family''s levels';
comment on column public.signals.row_count is 'How many rows were looked at';
comment on column public.signals.model_version is 'The version whose training they were held against';

comment on column public.models.family is 'The family of models';
comment on column public.models.model is 'The model''s name';
comment on column public.models.group_name is 'The group whose retrain rule it shares; null where it has none';
comment on column public.models.state is 'active or retired';
comment on column public.models.since is 'The as_of (UTC) from which on that holds';

-- One typed view for each family -------------------------------------------------------------

create function nightshift.show_family(family text, task text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '2s'
as $$
declare
    view text := 'predictions_' || family;
    told text := format('Published predictions of the family %s (%s), as in predictions. Contract %s.',
                        family, task, (select version from public.contract));
    said text := obj_description(to_regclass(format('public.%I', view)), 'pg_class');
    typed text;
begin
    if octet_length(view) > 63 then
        raise 'the view of family % would be named %, which is longer than the 63 bytes that Postgres allows', family, view
            using errcode = 'name_too_long';
    end if;
    if said = told then
        return;
    end if;
    if to_regclass(format('public.%I', view)) is not null
       and coalesce(said, '') not like 'Published predictions of the family %' then
        raise 'the view of family % would be named %, and there is something else of that name', family, view
            using errcode = 'duplicate_table';
    end if;
    typed := case when task = 'regression' then 'score as value' else 'score as probability, label' end;
    perform pg_advisory_xact_lock(hashtext('nightshift.show_family'));
    if exists (
        select from pg_class
        where relname = view and relnamespace = 'public'::regnamespace and obj_description(oid, 'pg_class') = told
    ) then
        return;  -- whoever was waited for has made it
    end if;
    execute format('drop view if exists public.%I', view);
    execute format('create view public.%I as select entity_id, as_of, model, %s, flags, model_version, batch_id, published_at'
                   ' from public.predictions where family = %L', view, typed, family);
    execute format('comment on view public.%I is %L', view, told);
    execute format('comment on column public.%I.entity_id is ''As in predictions''', view);
    execute format('comment on column public.%I.as_of is ''As in predictions''', view);
    execute format('comment on column public.%I.model is ''As in predictions''', view);
    if task = 'regression' then
        execute format('comment on column public.%I.value is ''The predicted value''', view);
    else
        execute format('comment on column public.%I.probability is %L', view, case task
            when 'binary_classification' then 'The probability of the positive class' else 'The probability of label' end);
        execute format('comment on column public.%I.label is ''The predicted class''', view);
    end if;
    execute format('comment on column public.%I.flags is ''As in predictions''', view);
    execute format('comment on column public.%I.model_version is ''As in predictions''', view);
    execute format('comment on column public.%I.batch_id is ''As in predictions''', view);
    execute format('comment on column public.%I.published_at is ''As in predictions''', view);
    execute format('grant select on public.%I to nightshift_reader, nightshift_writer', view);
end
$$;
comment on function nightshift.show_family is 'Make the view predictions_<family>, or make it anew where the task or the contract has changed.';

-- Who may do what ----------------------------------------------------------------------------

revoke execute on function nightshift.open_month, nightshift.retire_month, nightshift.show_family from public;
grant execute on function nightshift.open_month, nightshift.retire_month, nightshift.show_family to nightshift_writer;
grant select, insert, delete on nightshift.prediction_rows to nightshift_writer;
grant select on nightshift.retirements to nightshift_writer;
grant select on public.contract, public.predictions, public.predictions_latest, public.nights
    to nightshift_reader, nightshift_writer;
