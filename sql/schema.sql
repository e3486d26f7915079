-- What the migrations make, to be read, and for databases that begin empty: after
-- migrations/roles.sql, by a superuser or nightshift_owner. Renewed by a test:
-- RENEW_SCHEMA=1 .venv/bin/python -m pytest tests/integration/data/test_migrations.py

set local role nightshift_owner;
set local check_function_bodies = off;

CREATE FUNCTION nightshift.bare_key(entity text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN lower(regexp_replace(regexp_replace(btrim(entity), '[.]0+$'::text, ''::text), '^0+(?=.)'::text, ''::text));

COMMENT ON FUNCTION nightshift.bare_key(entity text) IS 'An entity_id without what spellings of one key differ by: blanks, case, leading zeros, an empty fraction.';

CREATE FUNCTION nightshift.chain_decision() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog'
    AS $$
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

COMMENT ON FUNCTION nightshift.chain_decision() IS 'Give a new decision its place in the chain, and its hash.';

CREATE TABLE nightshift.decisions (
    decision_id integer NOT NULL,
    model_id integer NOT NULL,
    kind text NOT NULL,
    rule text NOT NULL,
    reason text NOT NULL,
    as_of timestamp with time zone NOT NULL,
    inputs jsonb NOT NULL,
    subject text NOT NULL,
    decided_at timestamp with time zone NOT NULL,
    seq bigint NOT NULL,
    prev_hash text NOT NULL,
    hash text NOT NULL,
    about text NOT NULL,
    about_id bigint,
    severity double precision DEFAULT 0 NOT NULL,
    alarming boolean DEFAULT false NOT NULL,
    falling_since timestamp with time zone,
    hash_rule smallint DEFAULT 2 NOT NULL,
    CONSTRAINT decisions_about_check CHECK ((about = ANY (ARRAY['monitor'::text, 'request'::text, 'rollback'::text, 'version'::text, 'comparison'::text, 'shadow'::text, 'probation'::text, 'approval'::text, 'training'::text, 'other'::text]))),
    CONSTRAINT decisions_about_id_check CHECK (((about_id IS NOT NULL) = (about = ANY (ARRAY['version'::text, 'comparison'::text, 'shadow'::text, 'probation'::text, 'approval'::text, 'training'::text])))),
    CONSTRAINT decisions_hash_rule_check CHECK ((hash_rule = ANY (ARRAY[1, 2]))),
    CONSTRAINT decisions_kind_check CHECK ((kind = ANY (ARRAY['keep'::text, 'alert'::text, 'wait'::text, 'ask'::text, 'held'::text, 'defer'::text, 'retrain'::text, 'promote'::text, 'reject'::text, 'shadow'::text, 'rollback'::text, 'failed'::text]))),
    CONSTRAINT decisions_severity_check CHECK ((severity <> 'NaN'::double precision))
);

COMMENT ON TABLE nightshift.decisions IS 'What a policy concluded and why. Append-only.';

COMMENT ON COLUMN nightshift.decisions.subject IS 'What was decided about, in words. Deciding twice about one subject is deciding once; nothing else reads it.';

COMMENT ON COLUMN nightshift.decisions.seq IS 'The place in the chain, without gaps.';

COMMENT ON COLUMN nightshift.decisions.prev_hash IS 'The hash of the decision before this one; empty for the first.';

COMMENT ON COLUMN nightshift.decisions.hash IS 'SHA-256 over this row and prev_hash, set by a trigger: whoever edits a row breaks the chain.';

COMMENT ON COLUMN nightshift.decisions.about IS 'What was decided about: a measuring, a request or a rollback that somebody asked for, a version by hand, a comparison, a shadow, a probation, an approval, a training.';

COMMENT ON COLUMN nightshift.decisions.about_id IS 'Which one: version_id, comparison_id, shadow_id, approval_id; of a probation the seq of the model''s promotion; of a training the decision_id that asked for it.';

COMMENT ON COLUMN nightshift.decisions.severity IS 'How many standard errors, or limits of the detector, the model lies below its threshold; 0 where that is not told.';

COMMENT ON COLUMN nightshift.decisions.alarming IS 'Whether a measuring has found the model below its threshold, or a rule of retrain.when has fired.';

COMMENT ON COLUMN nightshift.decisions.falling_since IS 'Since which night the detector says that the model has fallen; null where it does not.';

COMMENT ON COLUMN nightshift.decisions.hash_rule IS '1: made before these columns were, which its hash leaves out, with hold for wait, ask and held. 2: every column.';

CREATE FUNCTION nightshift.decision_hash(d nightshift.decisions) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN encode(sha256(convert_to((CASE (d).hash_rule WHEN 1 THEN jsonb_build_array((d).prev_hash, (d).seq, (d).decision_id, (d).model_id, CASE WHEN ((d).kind = ANY (ARRAY['wait'::text, 'ask'::text, 'held'::text])) THEN 'hold'::text ELSE (d).kind END, (d).rule, (d).reason, to_char(((d).as_of AT TIME ZONE 'UTC'::text), 'YYYY-MM-DD"T"HH24:MI:SS.US'::text), (d).inputs, (d).subject, to_char(((d).decided_at AT TIME ZONE 'UTC'::text), 'YYYY-MM-DD"T"HH24:MI:SS.US'::text)) ELSE jsonb_build_array((d).prev_hash, (d).seq, (d).decision_id, (d).model_id, (d).kind, (d).rule, (d).reason, to_char(((d).as_of AT TIME ZONE 'UTC'::text), 'YYYY-MM-DD"T"HH24:MI:SS.US'::text), (d).inputs, (d).subject, to_char(((d).decided_at AT TIME ZONE 'UTC'::text), 'YYYY-MM-DD"T"HH24:MI:SS.US'::text), (d).hash_rule, (d).about, (d).about_id, (d).severity, (d).alarming, to_char(((d).falling_since AT TIME ZONE 'UTC'::text), 'YYYY-MM-DD"T"HH24:MI:SS.US'::text)) END)::text, 'UTF8'::name)), 'hex'::text);

COMMENT ON FUNCTION nightshift.decision_hash(d nightshift.decisions) IS 'What a decision''s hash must be: of every column, moments in UTC to the microsecond, with the hash before it.';

CREATE TABLE nightshift.measurements (
    measurement_id integer NOT NULL,
    model_id integer NOT NULL,
    metric text NOT NULL,
    as_of timestamp with time zone NOT NULL,
    window_start timestamp with time zone NOT NULL,
    window_end timestamp with time zone NOT NULL,
    state text NOT NULL,
    value double precision,
    low double precision,
    high double precision,
    predictions bigint NOT NULL,
    labels bigint NOT NULL,
    threshold double precision,
    measured_at timestamp with time zone NOT NULL,
    version_id integer,
    slice text DEFAULT ''::text NOT NULL,
    basis text DEFAULT 'realized'::text NOT NULL,
    method text DEFAULT ''::text NOT NULL,
    reference double precision,
    nights jsonb DEFAULT '[]'::jsonb NOT NULL,
    decisive boolean DEFAULT true NOT NULL,
    remark text,
    matured_predictions bigint,
    matured_labels bigint,
    CONSTRAINT measurements_basis_check CHECK ((basis = ANY (ARRAY['realized'::text, 'estimated'::text]))),
    CONSTRAINT measurements_check CHECK (((state = ANY (ARRAY['measured'::text, 'breached'::text])) = (value IS NOT NULL))),
    CONSTRAINT measurements_state_check CHECK ((state = ANY (ARRAY['measured'::text, 'breached'::text, 'immature'::text, 'undefined'::text]))),
    CONSTRAINT measurements_value_check CHECK ((value <> 'NaN'::double precision))
);

COMMENT ON TABLE nightshift.measurements IS 'A metric over a window of matured nights, as it was known at as_of. Greater is better, as scikit-learn''s scorers have it.';

COMMENT ON COLUMN nightshift.measurements.version_id IS 'Only rows that this version scored; null: of every version that served in the window.';

COMMENT ON COLUMN nightshift.measurements.slice IS 'Only rows with this value of a column, as column=value; empty: all rows.';

COMMENT ON COLUMN nightshift.measurements.basis IS 'realized: from labels; estimated: from calibrated scores, before any label.';

COMMENT ON COLUMN nightshift.measurements.method IS 'How the interval was made: a formula, or a bootstrap with its seed.';

COMMENT ON COLUMN nightshift.measurements.reference IS 'What the champion was worth when it was promoted.';

COMMENT ON COLUMN nightshift.measurements.nights IS 'Night by night: as_of, predictions, labels, value, error. What the sequential detector reads.';

COMMENT ON COLUMN nightshift.measurements.decisive IS 'Whether decisions look at this metric; the others are measured beside it.';

COMMENT ON COLUMN nightshift.measurements.remark IS 'Why the metric is undefined on these rows, or that a single row makes up most of its value; null where there is nothing to say';

COMMENT ON COLUMN nightshift.measurements.matured_predictions IS 'Of the predictions, those of nights that matured since the monitoring before; null where it was not told yet';

COMMENT ON COLUMN nightshift.measurements.matured_labels IS 'How many of these had a known label; null where it was not told yet';

CREATE FUNCTION nightshift.decisive_measurements() RETURNS SETOF nightshift.measurements
    LANGUAGE sql STABLE
    AS $$
    select x.* from nightshift.measurements x where x.decisive and x.basis = 'realized' and x.slice = ''
$$;

COMMENT ON FUNCTION nightshift.decisive_measurements() IS 'What decisions look at: the deciding metric over all rows, as labels have shown it.';

CREATE FUNCTION nightshift.labelled_rows(of_family text, since timestamp with time zone, until timestamp with time zone, known_by timestamp with time zone) RETURNS TABLE(as_of timestamp with time zone, score double precision, batch_id integer, version_id integer, model_id integer, flags smallint, role smallint, entity_id text, label text, value text)
    LANGUAGE sql STABLE
    AS $$
    select r.as_of, r.score, r.batch_id, r.version_id, r.model_id, r.flags, r.role, r.entity_id, r.label, l.value
    from nightshift.published_rows(of_family, since, until) r
    left join lateral nightshift.truth(of_family, r.entity_id, r.as_of, known_by) l on true
$$;

COMMENT ON FUNCTION nightshift.labelled_rows(of_family text, since timestamp with time zone, until timestamp with time zone, known_by timestamp with time zone) IS 'The rows of a family''s published nights in (since, until], each with its latest label known by a moment; null where there is none.';

CREATE TABLE nightshift.labels (
    label_id bigint NOT NULL,
    family text NOT NULL,
    entity_id text NOT NULL,
    answers timestamp with time zone,
    value text NOT NULL,
    event_at timestamp with time zone NOT NULL,
    known_at timestamp with time zone NOT NULL,
    collected_at timestamp with time zone NOT NULL,
    stated_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE nightshift.labels IS 'The truth about entities, append-only; a correction is a new row with a later known_at, and the latest known wins.';

COMMENT ON COLUMN nightshift.labels.answers IS 'The as_of that the label answers, where an entity is scored night after night; null where it is scored once.';

COMMENT ON COLUMN nightshift.labels.known_at IS 'When we could know the label: what the source stated, but never before a collection that did not find it.';

COMMENT ON COLUMN nightshift.labels.stated_at IS 'When the source says that the label became known.';

CREATE FUNCTION nightshift.labels_known(of_family text, since timestamp with time zone, until timestamp with time zone) RETURNS SETOF nightshift.labels
    LANGUAGE sql STABLE
    AS $$
    select l.* from nightshift.labels l
    where l.family = of_family
      and l.known_at at time zone 'UTC' > since at time zone 'UTC'  -- as the index has it
      and l.known_at at time zone 'UTC' <= until at time zone 'UTC'
$$;

COMMENT ON FUNCTION nightshift.labels_known(of_family text, since timestamp with time zone, until timestamp with time zone) IS 'The labels of a family that became known in (since, until].';

CREATE TABLE nightshift.published (
    family text NOT NULL,
    as_of timestamp with time zone NOT NULL,
    batch_id integer NOT NULL,
    published_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE nightshift.published IS 'The pointer readers follow: one batch for each family and as_of. It never goes back to an older batch.';

CREATE FUNCTION nightshift.last_night(of_family text) RETURNS SETOF nightshift.published
    LANGUAGE sql STABLE
    AS $$
    select p.* from nightshift.published p where p.family = of_family order by p.as_of desc limit 1
$$;

COMMENT ON FUNCTION nightshift.last_night(of_family text) IS 'The last night that a family has published; none before the first.';

CREATE TABLE nightshift.snapshots (
    snapshot_id integer NOT NULL,
    family text NOT NULL,
    as_of timestamp with time zone NOT NULL,
    revision integer NOT NULL,
    content_hash text NOT NULL,
    row_count bigint NOT NULL,
    dropped_rows bigint NOT NULL,
    query_hash text NOT NULL,
    taken_at timestamp with time zone NOT NULL,
    left_out jsonb DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT snapshots_content_hash_check CHECK ((content_hash ~ '^[0-9a-f]{64}$'::text))
);

COMMENT ON TABLE nightshift.snapshots IS 'Rows frozen at an as_of: a Parquet file in the store, named by its content hash, taken once.';

COMMENT ON COLUMN nightshift.snapshots.revision IS 'Above 1 only where validation rejected the one before and the source was mended.';

COMMENT ON COLUMN nightshift.snapshots.dropped_rows IS 'Rows that the query returned although they were known only after as_of; they are not in the file.';

COMMENT ON COLUMN nightshift.snapshots.left_out IS 'Rows that could not be scored and were left out, by reason: {"missing_key": {"rows": 2, "examples": [...]}}. No values of sensitive columns.';

CREATE FUNCTION nightshift.latest_snapshots() RETURNS SETOF nightshift.snapshots
    LANGUAGE sql STABLE
    AS $$
    select s.* from nightshift.snapshots s
    where not exists (
        select from nightshift.snapshots newer
        where newer.family = s.family and newer.as_of = s.as_of and newer.revision > s.revision)
$$;

COMMENT ON FUNCTION nightshift.latest_snapshots() IS 'The newest snapshot of each night.';

CREATE TABLE nightshift.validations (
    validation_id integer NOT NULL,
    snapshot_id integer NOT NULL,
    rules_hash text NOT NULL,
    verdict text NOT NULL,
    checks jsonb NOT NULL,
    validated_at timestamp with time zone NOT NULL,
    CONSTRAINT validations_verdict_check CHECK ((verdict = ANY (ARRAY['passed'::text, 'warned'::text, 'rejected'::text])))
);

COMMENT ON TABLE nightshift.validations IS 'The verdict on one snapshot, check by check. The latest row counts.';

COMMENT ON COLUMN nightshift.validations.rules_hash IS 'What was expected: the same snapshot is judged once by the same rules.';

CREATE FUNCTION nightshift.latest_validation(of_snapshot integer) RETURNS SETOF nightshift.validations
    LANGUAGE sql STABLE
    AS $$
    select v.* from nightshift.validations v where v.snapshot_id = of_snapshot order by v.validation_id desc limit 1
$$;

COMMENT ON FUNCTION nightshift.latest_validation(of_snapshot integer) IS 'The verdict that counts on a snapshot: its latest; none before it is validated.';

CREATE TABLE nightshift.memberships (
    model_id integer NOT NULL,
    as_of timestamp with time zone NOT NULL,
    state text NOT NULL,
    group_name text,
    CONSTRAINT memberships_state_check CHECK ((state = ANY (ARRAY['active'::text, 'retired'::text])))
);

COMMENT ON TABLE nightshift.memberships IS 'Which models a family had when, and in which group. Append-only: the latest row up to a moment holds then.';

CREATE FUNCTION nightshift.membership_at(of_model integer, moment timestamp with time zone) RETURNS SETOF nightshift.memberships
    LANGUAGE sql STABLE
    AS $$
    select m.* from nightshift.memberships m
    where m.model_id = of_model and m.as_of <= moment
    order by m.as_of desc limit 1
$$;

COMMENT ON FUNCTION nightshift.membership_at(of_model integer, moment timestamp with time zone) IS 'Whether a model is active at a moment, and in which group; none before its first mention.';

CREATE TABLE nightshift.approvals (
    approval_id integer NOT NULL,
    comparison_id integer NOT NULL,
    evidence text NOT NULL,
    evidence_hash text NOT NULL,
    asked_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE nightshift.approvals IS 'What people were asked to approve, with the hash of the evidence they saw.';

CREATE FUNCTION nightshift.open_approvals() RETURNS SETOF nightshift.approvals
    LANGUAGE sql STABLE
    AS $$
    select a.* from nightshift.approvals a
    where not exists (select from nightshift.answers w where w.approval_id = a.approval_id)
$$;

COMMENT ON FUNCTION nightshift.open_approvals() IS 'Approvals that nobody has answered yet.';

CREATE FUNCTION nightshift.open_month(moment timestamp with time zone) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION nightshift.open_month(moment timestamp with time zone) IS 'Make the partition of a moment''s month unless it is there; false where the month was retired.';

CREATE TABLE nightshift.shadows (
    shadow_id integer NOT NULL,
    model_id integer NOT NULL,
    version_id integer NOT NULL,
    instead_of integer NOT NULL,
    decision_id integer NOT NULL,
    comparison_id integer NOT NULL,
    starts timestamp with time zone NOT NULL,
    ends timestamp with time zone NOT NULL,
    carried jsonb DEFAULT '[]'::jsonb NOT NULL
);

COMMENT ON TABLE nightshift.shadows IS 'Challengers that score beside the champion for a while. Over when a decision about the shadow was made.';

COMMENT ON COLUMN nightshift.shadows.comparison_id IS 'What it proved to be put to the test; a promotion takes over its reference.';

COMMENT ON COLUMN nightshift.shadows.carried IS 'The gains by night that it takes along as evidence; none where it was proven, and must prove itself again';

CREATE FUNCTION nightshift.open_shadows() RETURNS SETOF nightshift.shadows
    LANGUAGE sql STABLE
    AS $$
    select s.* from nightshift.shadows s
    where not exists (select from nightshift.decisions d where d.about = 'shadow' and d.about_id = s.shadow_id)
$$;

COMMENT ON FUNCTION nightshift.open_shadows() IS 'Challengers in shadow about which nothing was decided yet.';

CREATE TABLE nightshift.promotions (
    model_id integer NOT NULL,
    seq integer NOT NULL,
    version_id integer NOT NULL,
    decision_id integer NOT NULL,
    effective_from timestamp with time zone NOT NULL,
    promoted_at timestamp with time zone NOT NULL,
    reference jsonb
);

COMMENT ON TABLE nightshift.promotions IS 'Append-only: the latest row effective at a moment is the champion at that moment. Two racers cannot both take a seq.';

COMMENT ON COLUMN nightshift.promotions.reference IS 'What the version was worth on rows it was not trained on: by metric value, error, spread; scores; calibration.';

CREATE FUNCTION nightshift.promotion_at(of_model integer, moment timestamp with time zone) RETURNS SETOF nightshift.promotions
    LANGUAGE sql STABLE
    AS $$
    select p.* from nightshift.promotions p
    where p.model_id = of_model and p.effective_from <= moment
    order by p.seq desc limit 1
$$;

COMMENT ON FUNCTION nightshift.promotion_at(of_model integer, moment timestamp with time zone) IS 'The promotion by which a model''s champion serves at a moment; none before the first.';

CREATE TABLE nightshift.prediction_rows (
    as_of timestamp with time zone NOT NULL,
    score double precision CONSTRAINT prediction_rows_score_not_null1 NOT NULL,
    batch_id integer CONSTRAINT prediction_rows_batch_id_not_null1 NOT NULL,
    version_id integer CONSTRAINT prediction_rows_version_id_not_null1 NOT NULL,
    model_id integer NOT NULL,
    flags smallint CONSTRAINT prediction_rows_flags_not_null1 NOT NULL,
    role smallint DEFAULT 0 CONSTRAINT prediction_rows_role_not_null1 NOT NULL,
    entity_id text CONSTRAINT prediction_rows_entity_id_not_null1 NOT NULL,
    label text
)
PARTITION BY RANGE (as_of);

COMMENT ON TABLE nightshift.prediction_rows IS 'Narrow on purpose: what is constant for a batch lives in batches. One partition a month (UTC) of as_of. Rows of unpublished batches are here too; read the view.';

COMMENT ON COLUMN nightshift.prediction_rows.as_of IS 'That of the batch, repeated: it finds the partition.';

COMMENT ON COLUMN nightshift.prediction_rows.model_id IS 'The model that the row belongs to; where a fallback scored it, not that of the version.';

COMMENT ON COLUMN nightshift.prediction_rows.role IS '0: what readers see. 1: a challenger in shadow, scored beside the champion.';

CREATE FUNCTION nightshift.published_rows(of_family text, since timestamp with time zone, until timestamp with time zone) RETURNS SETOF nightshift.prediction_rows
    LANGUAGE sql STABLE
    AS $$
    select r.*
    from nightshift.published p
    cross join lateral (
        select r.* from nightshift.prediction_rows r
        where r.batch_id = p.batch_id and r.as_of = p.as_of
          and r.as_of > since and r.as_of <= until  -- again, of the rows: it leaves other months unread
        offset 0  -- night by night: a join might read each night's month whole
    ) r
    where p.family = of_family and p.as_of > since and p.as_of <= until
$$;

COMMENT ON FUNCTION nightshift.published_rows(of_family text, since timestamp with time zone, until timestamp with time zone) IS 'The rows of a family''s published nights in (since, until], those of challengers in shadow too.';

CREATE FUNCTION nightshift.recount_labels(added bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if added > (select greatest(reltuples, 0) / 10 from pg_class where oid = 'nightshift.labels'::regclass) then
        analyze nightshift.labels;
    end if;
end
$$;

COMMENT ON FUNCTION nightshift.recount_labels(added bigint) IS 'Gather statistics of labels where so many were added that those there are do not hold any more.';

CREATE FUNCTION nightshift.retire_month(before timestamp with time zone, now timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '300ms'
    AS $$
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

COMMENT ON FUNCTION nightshift.retire_month(before timestamp with time zone, now timestamp with time zone) IS 'Drop the oldest month of prediction rows if it ends by a moment: its table''s name, none, or busy where a reader would have to be waited for.';

CREATE FUNCTION nightshift.show_family(family text, task text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '2s'
    AS $$
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

COMMENT ON FUNCTION nightshift.show_family(family text, task text) IS 'Make the view predictions_<family>, or make it anew where the task or the contract has changed.';

CREATE FUNCTION nightshift.truth(of_family text, entity text, night timestamp with time zone, known_by timestamp with time zone) RETURNS TABLE(value text, known_at timestamp with time zone)
    LANGUAGE sql STABLE
    AS $$
    select (array_agg(l.value order by l.stated_at desc, l.known_at desc, l.value collate "C" desc))[1], min(l.known_at)
    from nightshift.labels l
    where l.family = of_family and l.entity_id = entity
      and (l.answers is null or l.answers = night)
      and l.known_at <= known_by
    having min(l.stated_at) > night  -- what was stated by the night is no truth about it: it could be known
$$;

COMMENT ON FUNCTION nightshift.truth(of_family text, entity text, night timestamp with time zone, known_by timestamp with time zone) IS 'The latest label of an entity known by a moment, and when its first one was known; none where one was stated by the night already.';

CREATE TABLE nightshift.alert_deliveries (
    alert_id integer NOT NULL,
    notifier text NOT NULL,
    delivered_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE nightshift.alert_deliveries IS 'Which notifier has delivered which alert.';

CREATE TABLE nightshift.alerts (
    alert_id integer NOT NULL,
    family text NOT NULL,
    cause text NOT NULL,
    subject text NOT NULL,
    message text NOT NULL,
    raised_at timestamp with time zone NOT NULL,
    title text NOT NULL,
    as_of timestamp with time zone NOT NULL
);

COMMENT ON TABLE nightshift.alerts IS 'What people were told: one row for each cause, however many models it touches.';

COMMENT ON COLUMN nightshift.alerts.subject IS 'What sets this alert apart from others of its cause: the same one is raised once. Nothing else reads it.';

COMMENT ON COLUMN nightshift.alerts.title IS 'The family and what happened, in a few words; the message begins with it.';

COMMENT ON COLUMN nightshift.alerts.as_of IS 'The night, or the moment of measuring, that it is about.';

ALTER TABLE nightshift.alerts ALTER COLUMN alert_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME nightshift.alerts_alert_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE nightshift.answers (
    approval_id integer NOT NULL,
    answer text NOT NULL,
    said_by text NOT NULL,
    evidence_hash text NOT NULL,
    decision_id integer NOT NULL,
    answered_at timestamp with time zone NOT NULL,
    CONSTRAINT answers_answer_check CHECK ((answer = ANY (ARRAY['approved'::text, 'declined'::text, 'timed_out'::text, 'superseded'::text])))
);

COMMENT ON TABLE nightshift.answers IS 'Who answered, what, and the hash of the evidence they saw. Append-only.';

ALTER TABLE nightshift.approvals ALTER COLUMN approval_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME nightshift.approvals_approval_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE nightshift.batch_models (
    batch_id integer NOT NULL,
    model_id integer NOT NULL,
    version_id integer,
    row_count bigint NOT NULL
);

COMMENT ON TABLE nightshift.batch_models IS 'How many rows of a batch belong to each model, and which version scored them; null where none could.';

CREATE TABLE nightshift.batch_parts (
    batch_id integer NOT NULL,
    part integer NOT NULL,
    plan jsonb NOT NULL,
    row_count bigint,
    written_at timestamp with time zone,
    failed jsonb DEFAULT '{}'::jsonb NOT NULL,
    shadows_at timestamp with time zone,
    failed_shadows jsonb DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT batch_parts_check CHECK (((written_at IS NULL) = (row_count IS NULL)))
);

COMMENT ON TABLE nightshift.batch_parts IS 'The parts in which a batch is written, one task each. A part and its rows are committed together, so a part is written once, however often it is tried.';

COMMENT ON COLUMN nightshift.batch_parts.plan IS 'What the part scores, fixed when the batch began: members with the versions that score them, and which row groups of the snapshot.';

COMMENT ON COLUMN nightshift.batch_parts.row_count IS 'How many rows were written for readers, those of versions that failed midway included.';

COMMENT ON COLUMN nightshift.batch_parts.failed IS 'The versions that failed here, with the error of each: none of their rows in the batch are kept, whichever part wrote them.';

COMMENT ON COLUMN nightshift.batch_parts.shadows_at IS 'When the challengers in shadow had scored the part, after its champions.';

COMMENT ON COLUMN nightshift.batch_parts.failed_shadows IS 'The same of the challengers in shadow.';

CREATE TABLE nightshift.batches (
    batch_id integer NOT NULL,
    family text NOT NULL,
    as_of timestamp with time zone NOT NULL,
    snapshot_id integer NOT NULL,
    version_ids integer[] NOT NULL,
    row_count bigint,
    state text NOT NULL,
    started_at timestamp with time zone NOT NULL,
    written_at timestamp with time zone,
    purged_at timestamp with time zone,
    skipped_rows bigint DEFAULT 0 NOT NULL,
    failed_rows bigint DEFAULT 0 NOT NULL,
    CONSTRAINT batches_state_check CHECK ((state = ANY (ARRAY['writing'::text, 'written'::text, 'abandoned'::text])))
);

COMMENT ON TABLE nightshift.batches IS 'One family''s predictions for one as_of: written first, published by a pointer.';

COMMENT ON COLUMN nightshift.batches.skipped_rows IS 'Rows of the snapshot whose model had no champion, in a family without a fallback.';

COMMENT ON COLUMN nightshift.batches.failed_rows IS 'Rows of the snapshot whose version could not be opened or failed; the night can be scored again.';

ALTER TABLE nightshift.batches ALTER COLUMN batch_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME nightshift.batches_batch_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE nightshift.collected_artifacts (
    artifact_hash text NOT NULL,
    collected_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE nightshift.collected_artifacts IS 'Artifacts whose file was deleted, because nothing refers to them or promotion.keep_versions has passed.';

CREATE TABLE nightshift.comparisons (
    comparison_id integer NOT NULL,
    challenger_version integer NOT NULL,
    champion_version integer,
    metric text NOT NULL,
    holdout_start timestamp with time zone NOT NULL,
    holdout_end timestamp with time zone NOT NULL,
    row_count bigint NOT NULL,
    champion_value double precision,
    challenger_value double precision,
    difference double precision,
    low double precision,
    compared_at timestamp with time zone NOT NULL,
    reference jsonb,
    decision_id integer NOT NULL,
    confidence double precision,
    candidates jsonb DEFAULT '[]'::jsonb NOT NULL,
    slices jsonb DEFAULT '[]'::jsonb NOT NULL,
    border_cases jsonb,
    champion_reference double precision,
    unscorable text,
    perfect double precision,
    baseline double precision,
    gains jsonb DEFAULT '[]'::jsonb NOT NULL,
    holdout_rows bigint,
    guess double precision,
    coverage double precision,
    learnt_coverage double precision
);

COMMENT ON TABLE nightshift.comparisons IS 'Champion and challenger on the same later rows. difference is challenger minus champion, greater is better.';

COMMENT ON COLUMN nightshift.comparisons.challenger_version IS 'The best of the candidates: the version just trained, or an earlier champion.';

COMMENT ON COLUMN nightshift.comparisons.reference IS 'What the challenger was worth on the holdout; a promotion copies it.';

COMMENT ON COLUMN nightshift.comparisons.decision_id IS 'The decision to retrain that asked for it.';

COMMENT ON COLUMN nightshift.comparisons.confidence IS 'Of the bound low: that of model.yaml, shared among the candidates.';

COMMENT ON COLUMN nightshift.comparisons.candidates IS 'Every candidate with its value, difference and bound.';

COMMENT ON COLUMN nightshift.comparisons.slices IS 'By slice: rows, difference, low and high.';

COMMENT ON COLUMN nightshift.comparisons.border_cases IS 'The family''s border cases: rows, and what either version is worth on them.';

COMMENT ON COLUMN nightshift.comparisons.champion_reference IS 'What the champion was worth when it was promoted.';

COMMENT ON COLUMN nightshift.comparisons.unscorable IS 'Why the champion could not score the holdout; null where it could.';

COMMENT ON COLUMN nightshift.comparisons.perfect IS 'What the metric would be if every prediction were the truth.';

COMMENT ON COLUMN nightshift.comparisons.baseline IS 'What the metric would be if every prediction were the same: the mean, or the commonest class.';

COMMENT ON COLUMN nightshift.comparisons.gains IS 'Challenger minus champion by night, oldest first: as_of and gain; nights without the metric are left out';

COMMENT ON COLUMN nightshift.comparisons.holdout_rows IS 'Labelled rows of the holdout, those that the champion has learnt among them; null where it was not told yet';

COMMENT ON COLUMN nightshift.comparisons.guess IS 'What the best constant of the rows learnt from is worth on the holdout, which a first version must beat; gains are over it then';

COMMENT ON COLUMN nightshift.comparisons.coverage IS 'The share of the holdout''s rows that have labels, 0 to 1; null where it was not told yet';

COMMENT ON COLUMN nightshift.comparisons.learnt_coverage IS 'The same of the rows that the challenger has learnt from';

ALTER TABLE nightshift.comparisons ALTER COLUMN comparison_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME nightshift.comparisons_comparison_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE nightshift.decisions ALTER COLUMN decision_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME nightshift.decisions_decision_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE nightshift.events (
    event_id bigint NOT NULL,
    happened_at timestamp with time zone NOT NULL,
    code text NOT NULL,
    family text,
    as_of timestamp with time zone,
    detail jsonb NOT NULL
);

COMMENT ON TABLE nightshift.events IS 'The audit trail: what was published, promoted, refused, purged, and why. Append-only.';

ALTER TABLE nightshift.events ALTER COLUMN event_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME nightshift.events_event_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE nightshift.exclusions (
    exclusion_id integer NOT NULL,
    family text NOT NULL,
    entity_id text NOT NULL,
    state text NOT NULL,
    reason text NOT NULL,
    said_by text NOT NULL,
    as_of timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    CONSTRAINT exclusions_state_check CHECK ((state = ANY (ARRAY['quarantined'::text, 'erased'::text, 'released'::text])))
);

COMMENT ON TABLE nightshift.exclusions IS 'Entities that no version may learn from. Append-only: the latest row of an entity holds; erased is for good.';

ALTER TABLE nightshift.exclusions ALTER COLUMN exclusion_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME nightshift.exclusions_exclusion_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE nightshift.holds (
    hold_id integer NOT NULL,
    family text NOT NULL,
    held boolean NOT NULL,
    reason text NOT NULL,
    said_by text NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    CONSTRAINT holds_reason_check CHECK ((reason <> ''::text))
);

COMMENT ON TABLE nightshift.holds IS 'Who has held a family, or released it, and why. Append-only: the latest row of a family holds.';

COMMENT ON COLUMN nightshift.holds.held IS 'True: no model of the family is retrained or replaced by itself. False: they are again.';

ALTER TABLE nightshift.holds ALTER COLUMN hold_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME nightshift.holds_hold_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE nightshift.label_collections (
    collection_id integer NOT NULL,
    family text NOT NULL,
    since timestamp with time zone NOT NULL,
    as_of timestamp with time zone NOT NULL,
    found bigint NOT NULL,
    added bigint NOT NULL,
    duplicates bigint NOT NULL,
    corrections bigint NOT NULL,
    contradictions bigint NOT NULL,
    late bigint NOT NULL,
    collected_at timestamp with time zone NOT NULL,
    set_aside bigint DEFAULT 0 NOT NULL
);

COMMENT ON TABLE nightshift.label_collections IS 'What the source was asked, and what it gave. A label that it states inside a stretch asked before is late: it is known from this collection on.';

COMMENT ON COLUMN nightshift.label_collections.corrections IS 'New rows for an entity whose earlier label said something else.';

COMMENT ON COLUMN nightshift.label_collections.contradictions IS 'New rows that say something else than a label stated for the same moment.';

COMMENT ON COLUMN nightshift.label_collections.set_aside IS 'New labels of which an expectation does not hold.';

ALTER TABLE nightshift.label_collections ALTER COLUMN collection_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME nightshift.label_collections_collection_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE nightshift.labels ALTER COLUMN label_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME nightshift.labels_label_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE nightshift.labels_set_aside (
    family text NOT NULL,
    entity_id text NOT NULL,
    answers timestamp with time zone,
    value text NOT NULL,
    event_at timestamp with time zone NOT NULL,
    stated_at timestamp with time zone NOT NULL,
    reason text NOT NULL,
    collected_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE nightshift.labels_set_aside IS 'Labels of which an expectation of model.yaml does not hold: neither measured nor learnt from. One that becomes known later, and is as expected, counts as ever.';

COMMENT ON COLUMN nightshift.labels_set_aside.reason IS 'The expectation that does not hold';

ALTER TABLE nightshift.measurements ALTER COLUMN measurement_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME nightshift.measurements_measurement_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE nightshift.models (
    model_id integer NOT NULL,
    family text NOT NULL,
    name text NOT NULL,
    created_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE nightshift.models IS 'The members of every family; a family without members has one, named as the family.';

ALTER TABLE nightshift.models ALTER COLUMN model_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME nightshift.models_model_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE nightshift.pseudonym_keys (
    family text NOT NULL,
    method text NOT NULL,
    key_id text NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    CONSTRAINT pseudonym_keys_key_id_check CHECK ((key_id ~ '^[0-9a-f]{16}$'::text)),
    CONSTRAINT pseudonym_keys_method_check CHECK ((method = 'hmac'::text))
);

COMMENT ON TABLE nightshift.pseudonym_keys IS 'Families whose entities are told by pseudonym, and by which key: with another one, labels would meet no prediction. Append-only.';

COMMENT ON COLUMN nightshift.pseudonym_keys.key_id IS 'The beginning of a SHA-256 made of the key, which is in a file and never here.';

CREATE TABLE nightshift.recollections (
    model_id integer NOT NULL,
    seq integer NOT NULL,
    version_id integer NOT NULL,
    as_of timestamp with time zone NOT NULL,
    gain double precision,
    row_count bigint NOT NULL
);

COMMENT ON TABLE nightshift.recollections IS 'What a matured night says of an earlier champion against the one that serves since the promotion seq of the model';

COMMENT ON COLUMN nightshift.recollections.gain IS 'The earlier champion minus the serving one in the metric, greater is better; null where the night does not tell';

COMMENT ON COLUMN nightshift.recollections.row_count IS 'Of how many labelled rows; a sample where a night has many';

CREATE TABLE nightshift.retirements (
    month date NOT NULL,
    ends timestamp with time zone NOT NULL,
    retired_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE nightshift.retirements IS 'Months whose prediction rows were dropped, because keep_predictions had passed. Append-only; nights before the latest end have no rows.';

CREATE TABLE nightshift.schema_version (
    version_num character varying(32) NOT NULL
);

ALTER TABLE nightshift.shadows ALTER COLUMN shadow_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME nightshift.shadows_shadow_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE nightshift.signals (
    batch_id integer NOT NULL,
    model_id integer NOT NULL,
    version_id integer NOT NULL,
    signal text NOT NULL,
    feature text NOT NULL,
    value double precision NOT NULL,
    level text NOT NULL,
    row_count bigint NOT NULL,
    watched_at timestamp with time zone NOT NULL,
    CONSTRAINT signals_level_check CHECK ((level = ANY (ARRAY['ok'::text, 'warn'::text, 'alert'::text]))),
    CONSTRAINT signals_signal_check CHECK ((signal = ANY (ARRAY['missing'::text, 'unseen'::text, 'out_of_range'::text, 'drift'::text, 'score_drift'::text, 'estimated'::text]))),
    CONSTRAINT signals_value_check CHECK ((value <> 'NaN'::double precision))
);

COMMENT ON TABLE nightshift.signals IS 'Inputs and outputs against what the champion saw in training, the same night, before any label.';

COMMENT ON COLUMN nightshift.signals.value IS 'A share of rows, a distance from 0 to 1, or (estimated) a fall of the metric.';

ALTER TABLE nightshift.snapshots ALTER COLUMN snapshot_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME nightshift.snapshots_snapshot_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE nightshift.trials (
    model_id integer NOT NULL,
    as_of timestamp with time zone NOT NULL,
    kind text NOT NULL,
    older integer NOT NULL,
    newer integer NOT NULL,
    metric text NOT NULL,
    nights integer NOT NULL,
    row_count bigint NOT NULL,
    difference double precision,
    evidence double precision NOT NULL,
    needed double precision NOT NULL,
    judged_at timestamp with time zone NOT NULL,
    CONSTRAINT trials_kind_check CHECK ((kind = ANY (ARRAY['shadow'::text, 'probation'::text])))
);

COMMENT ON TABLE nightshift.trials IS 'Two versions on the same matured nights, looked at every night: newer minus older, with the e-value gathered so far.';

ALTER TABLE nightshift.validations ALTER COLUMN validation_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME nightshift.validations_validation_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE nightshift.versions (
    version_id integer NOT NULL,
    model_id integer NOT NULL,
    number integer NOT NULL,
    artifact_hash text NOT NULL,
    signature bytea NOT NULL,
    manifest jsonb NOT NULL,
    decision_id integer NOT NULL,
    trained_at timestamp with time zone NOT NULL,
    made_as text DEFAULT 'challenger'::text NOT NULL,
    CONSTRAINT versions_artifact_hash_check CHECK ((artifact_hash ~ '^[0-9a-f]{64}$'::text)),
    CONSTRAINT versions_made_as_check CHECK ((made_as = ANY (ARRAY['challenger'::text, 'since_break'::text, 'refit'::text])))
);

COMMENT ON TABLE nightshift.versions IS 'Trained artifacts: joblib files in the store, named by content hash and signed.';

COMMENT ON COLUMN nightshift.versions.made_as IS 'challenger, learnt from retrain.training.window; since_break, from the nights since a break; refit, what serves after the proof, the holdout learnt along';

CREATE VIEW nightshift.version_records AS
 SELECT v.version_id,
    v.model_id,
    m.family,
    m.name,
    v.number,
    v.artifact_hash,
    v.signature,
    v.manifest,
    v.decision_id,
    v.made_as,
    v.trained_at,
    g.collected_at
   FROM ((nightshift.versions v
     JOIN nightshift.models m USING (model_id))
     LEFT JOIN nightshift.collected_artifacts g USING (artifact_hash));

COMMENT ON VIEW nightshift.version_records IS 'Versions with the names of their models, and when their artifacts were collected, if they were.';

ALTER TABLE nightshift.versions ALTER COLUMN version_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME nightshift.versions_version_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE VIEW public.champions AS
 SELECT DISTINCT ON (m.model_id) m.family,
    m.name AS model,
    v.number AS model_version,
    v.artifact_hash AS artifact,
    p.effective_from,
    p.promoted_at,
    d.reason
   FROM (((nightshift.promotions p
     JOIN nightshift.models m USING (model_id))
     JOIN nightshift.versions v USING (version_id))
     JOIN nightshift.decisions d ON ((d.decision_id = p.decision_id)))
  ORDER BY m.model_id, p.seq DESC;

COMMENT ON VIEW public.champions IS 'The version that serves, for each model.';

COMMENT ON COLUMN public.champions.family IS 'The family of models';

COMMENT ON COLUMN public.champions.model IS 'The model; in a family of one model, its name is the family''s';

COMMENT ON COLUMN public.champions.model_version IS 'The version number that serves';

COMMENT ON COLUMN public.champions.artifact IS 'SHA-256 of the trained pipeline''s bytes';

COMMENT ON COLUMN public.champions.effective_from IS 'The first as_of (UTC) that this version scores';

COMMENT ON COLUMN public.champions.promoted_at IS 'When it was promoted';

COMMENT ON COLUMN public.champions.reason IS 'Why it was promoted, in a sentence with figures';

CREATE VIEW public.contract AS
 SELECT '2.2'::text AS version;

COMMENT ON VIEW public.contract IS 'The version of what readers may rely on: these views, their columns, and the notification nightshift_published.';

COMMENT ON COLUMN public.contract.version IS 'Its first number grows when something that readers use changes or goes, its second when something is added';

CREATE VIEW public.decisions AS
 SELECT d.decision_id,
    m.family,
    m.name AS model,
    d.kind,
    d.rule,
    d.reason,
    d.as_of,
    d.decided_at
   FROM (nightshift.decisions d
     JOIN nightshift.models m USING (model_id));

COMMENT ON VIEW public.decisions IS 'What was decided about each model, and why.';

COMMENT ON COLUMN public.decisions.decision_id IS 'Which decision; commands and alerts name it';

COMMENT ON COLUMN public.decisions.family IS 'The family of models';

COMMENT ON COLUMN public.decisions.model IS 'The model that was decided about';

COMMENT ON COLUMN public.decisions.kind IS 'keep, alert, wait (its group cannot be decided yet), ask (a person is asked), held (the family is), defer, retrain, promote, reject, shadow, rollback, or failed: a retrain that came to nothing';

COMMENT ON COLUMN public.decisions.rule IS 'The rule that decided';

COMMENT ON COLUMN public.decisions.reason IS 'Why, in a sentence with figures';

COMMENT ON COLUMN public.decisions.as_of IS 'The moment (UTC) as of which it was decided';

COMMENT ON COLUMN public.decisions.decided_at IS 'When it was decided';

CREATE VIEW public.models AS
 SELECT m.family,
    m.name AS model,
    n.group_name,
    n.state,
    n.as_of AS since
   FROM (nightshift.models m
     JOIN LATERAL ( SELECT memberships.model_id,
            memberships.as_of,
            memberships.state,
            memberships.group_name
           FROM nightshift.memberships
          WHERE (memberships.model_id = m.model_id)
          ORDER BY memberships.as_of DESC
         LIMIT 1) n ON (true));

COMMENT ON VIEW public.models IS 'Every model with its group, active or retired.';

COMMENT ON COLUMN public.models.family IS 'The family of models';

COMMENT ON COLUMN public.models.model IS 'The model''s name';

COMMENT ON COLUMN public.models.group_name IS 'The group whose retrain rule it shares; null where it has none';

COMMENT ON COLUMN public.models.state IS 'active or retired';

COMMENT ON COLUMN public.models.since IS 'The as_of (UTC) from which on that holds';

CREATE VIEW public.nights AS
 SELECT p.family,
    p.as_of,
    b.row_count AS rows,
    p.batch_id,
    s.content_hash AS snapshot,
    p.published_at,
    (EXISTS ( SELECT
           FROM nightshift.retirements t
          WHERE (t.ends > p.as_of))) AS retired,
    ( SELECT jsonb_object_agg(o.reason, (o.told -> 'rows'::text)) AS jsonb_object_agg
           FROM jsonb_each(s.left_out) o(reason, told)) AS left_out
   FROM ((nightshift.published p
     JOIN nightshift.batches b USING (batch_id))
     JOIN nightshift.snapshots s USING (snapshot_id));

COMMENT ON VIEW public.nights IS 'Every night that was published: one row for each family and as_of.';

COMMENT ON COLUMN public.nights.family IS 'The family of models';

COMMENT ON COLUMN public.nights.as_of IS 'The moment (UTC) that the night''s predictions claim to know';

COMMENT ON COLUMN public.nights.rows IS 'How many predictions readers see, or saw before they were retired';

COMMENT ON COLUMN public.nights.batch_id IS 'The batch that readers see; a larger one replaces it when a night is scored again';

COMMENT ON COLUMN public.nights.snapshot IS 'SHA-256 of the Parquet file of features the night was computed from';

COMMENT ON COLUMN public.nights.published_at IS 'When readers saw the batch first';

COMMENT ON COLUMN public.nights.retired IS 'Whether its predictions were dropped, because keep_predictions had passed';

COMMENT ON COLUMN public.nights.left_out IS 'How many rows were left out for what was wrong with them, by reason, such as {"repeated_key": 2}; null where none was';

CREATE VIEW public.performance AS
 SELECT m.family,
    m.name AS model,
    x.metric,
    x.as_of,
    x.window_start,
    x.window_end,
    x.state,
    x.value,
    x.low,
    x.high,
    x.threshold,
    x.predictions,
    x.labels,
    x.basis,
    v.number AS model_version,
    x.slice,
    x.reference,
    x.method,
    x.decisive
   FROM ((nightshift.measurements x
     JOIN nightshift.models m USING (model_id))
     LEFT JOIN nightshift.versions v USING (version_id));

COMMENT ON VIEW public.performance IS 'Every measurement: a metric over matured nights, as it was known at as_of. Greater is better.';

COMMENT ON COLUMN public.performance.family IS 'The family of models';

COMMENT ON COLUMN public.performance.model IS 'The model that was measured';

COMMENT ON COLUMN public.performance.metric IS 'A scikit-learn scorer''s name; greater is better';

COMMENT ON COLUMN public.performance.as_of IS 'The moment (UTC) of measuring: later labels do not count';

COMMENT ON COLUMN public.performance.window_start IS 'Nights after this moment were measured';

COMMENT ON COLUMN public.performance.window_end IS 'Nights up to this moment were measured; later ones had not matured';

COMMENT ON COLUMN public.performance.state IS 'measured; breached: the whole interval lies below threshold; immature: too few labels; undefined: the metric has no value on these rows';

COMMENT ON COLUMN public.performance.value IS 'The metric; null where immature or undefined';

COMMENT ON COLUMN public.performance.low IS 'The lower end of its interval';

COMMENT ON COLUMN public.performance.high IS 'The upper end of its interval';

COMMENT ON COLUMN public.performance.threshold IS 'What value should not fall below; null where none is set';

COMMENT ON COLUMN public.performance.predictions IS 'Predictions of the window''s nights';

COMMENT ON COLUMN public.performance.labels IS 'How many of them had a label';

COMMENT ON COLUMN public.performance.basis IS 'realized: from labels; estimated: from calibrated scores, before any label';

COMMENT ON COLUMN public.performance.model_version IS 'Only rows that this version scored; null: of every version that served in the window';

COMMENT ON COLUMN public.performance.slice IS 'Only rows with this value of a column, as column=value; empty: all rows';

COMMENT ON COLUMN public.performance.reference IS 'What the champion was worth when it was promoted';

COMMENT ON COLUMN public.performance.method IS 'How the interval was made: a formula, or a bootstrap with its seed';

COMMENT ON COLUMN public.performance.decisive IS 'Whether decisions look at this metric; the others are measured beside it';

CREATE VIEW public.predictions AS
 SELECT r.entity_id,
    p.family,
    m.name AS model,
    p.as_of,
    r.score,
    r.label,
        CASE
            WHEN ((r.flags = 0) AND (r.model_id = v.model_id)) THEN '{}'::text[]
            ELSE array_remove(ARRAY[
            CASE
                WHEN (((r.flags)::integer & 1) <> 0) THEN 'unseen_category'::text
                ELSE NULL::text
            END,
            CASE
                WHEN (((r.flags)::integer & 2) <> 0) THEN 'out_of_range'::text
                ELSE NULL::text
            END,
            CASE
                WHEN (r.model_id <> v.model_id) THEN 'fallback'::text
                ELSE NULL::text
            END], NULL::text)
        END AS flags,
    v.number AS model_version,
    s.content_hash AS snapshot,
    p.batch_id,
    p.published_at
   FROM (((((nightshift.published p
     JOIN nightshift.batches b USING (batch_id))
     JOIN nightshift.snapshots s USING (snapshot_id))
     JOIN nightshift.prediction_rows r ON (((r.batch_id = p.batch_id) AND (r.as_of = p.as_of))))
     JOIN nightshift.models m USING (model_id))
     JOIN nightshift.versions v USING (version_id))
  WHERE (r.role = 0);

COMMENT ON VIEW public.predictions IS 'Published predictions: one row for each entity and as_of of a family, never half a night.';

COMMENT ON COLUMN public.predictions.entity_id IS 'The entity scored, as features.sql names it';

COMMENT ON COLUMN public.predictions.family IS 'The family of models';

COMMENT ON COLUMN public.predictions.model IS 'The model that the entity belongs to; in a family of one model, its name is the family''s';

COMMENT ON COLUMN public.predictions.as_of IS 'The moment (UTC) that the prediction claims to know; nothing known later touched it';

COMMENT ON COLUMN public.predictions.score IS 'Regression: the value. Binary: the probability of the positive class. Multiclass: the probability of label';

COMMENT ON COLUMN public.predictions.label IS 'Classification: the predicted class. Regression: null';

COMMENT ON COLUMN public.predictions.flags IS 'unseen_category: a category not seen in training; out_of_range: a number outside the training range; fallback: the model of the whole family scored the row';

COMMENT ON COLUMN public.predictions.model_version IS 'The version number of the model that made the row; with the flag fallback, of the model of the whole family';

COMMENT ON COLUMN public.predictions.snapshot IS 'SHA-256 of the Parquet file of features the row was computed from';

COMMENT ON COLUMN public.predictions.batch_id IS 'The batch the row belongs to; rows of one as_of of a family share it';

COMMENT ON COLUMN public.predictions.published_at IS 'When readers saw the batch first';

CREATE VIEW public.predictions_latest AS
 SELECT l.entity_id,
    l.family,
    m.name AS model,
    l.as_of,
    r.score,
    r.label,
        CASE
            WHEN ((r.flags = 0) AND (r.model_id = v.model_id)) THEN '{}'::text[]
            ELSE array_remove(ARRAY[
            CASE
                WHEN (((r.flags)::integer & 1) <> 0) THEN 'unseen_category'::text
                ELSE NULL::text
            END,
            CASE
                WHEN (((r.flags)::integer & 2) <> 0) THEN 'out_of_range'::text
                ELSE NULL::text
            END,
            CASE
                WHEN (r.model_id <> v.model_id) THEN 'fallback'::text
                ELSE NULL::text
            END], NULL::text)
        END AS flags,
    v.number AS model_version,
    ( SELECT s.content_hash
           FROM (nightshift.batches b
             JOIN nightshift.snapshots s USING (snapshot_id))
          WHERE (b.batch_id = l.batch_id)) AS snapshot,
    l.batch_id,
    l.published_at
   FROM (((( SELECT DISTINCT ON (p.family, r_1.model_id, r_1.entity_id) p.family,
            r_1.model_id,
            r_1.entity_id,
            r_1.as_of,
            r_1.batch_id,
            p.published_at
           FROM (nightshift.published p
             JOIN nightshift.prediction_rows r_1 ON (((r_1.batch_id = p.batch_id) AND (r_1.as_of = p.as_of))))
          WHERE (r_1.role = 0)
          ORDER BY p.family, r_1.model_id, r_1.entity_id, r_1.as_of DESC) l
     JOIN nightshift.models m ON ((m.model_id = l.model_id)))
     JOIN nightshift.prediction_rows r ON (((r.entity_id = l.entity_id) AND (r.as_of = l.as_of) AND (r.batch_id = l.batch_id) AND (r.role = 0))))
     JOIN nightshift.versions v ON ((v.version_id = r.version_id)));

COMMENT ON VIEW public.predictions_latest IS 'The newest published prediction of each model and entity. Ask for entities: without any, all nights are read.';

COMMENT ON COLUMN public.predictions_latest.entity_id IS 'As in predictions';

COMMENT ON COLUMN public.predictions_latest.family IS 'As in predictions';

COMMENT ON COLUMN public.predictions_latest.model IS 'As in predictions; an entity that has changed its model has a row for each';

COMMENT ON COLUMN public.predictions_latest.as_of IS 'The newest published as_of of this model and entity, whichever night that was';

COMMENT ON COLUMN public.predictions_latest.score IS 'As in predictions';

COMMENT ON COLUMN public.predictions_latest.label IS 'As in predictions';

COMMENT ON COLUMN public.predictions_latest.flags IS 'As in predictions';

COMMENT ON COLUMN public.predictions_latest.model_version IS 'As in predictions';

COMMENT ON COLUMN public.predictions_latest.snapshot IS 'As in predictions';

COMMENT ON COLUMN public.predictions_latest.batch_id IS 'As in predictions';

COMMENT ON COLUMN public.predictions_latest.published_at IS 'As in predictions';

CREATE VIEW public.signals AS
 SELECT m.family,
    m.name AS model,
    b.as_of,
    s.signal,
    s.feature,
    s.value,
    s.level,
    s.row_count,
    v.number AS model_version
   FROM (((nightshift.signals s
     JOIN nightshift.batches b USING (batch_id))
     JOIN nightshift.models m USING (model_id))
     JOIN nightshift.versions v USING (version_id));

COMMENT ON VIEW public.signals IS 'Inputs and outputs of each night against what the champion saw in training, before any label.';

COMMENT ON COLUMN public.signals.family IS 'The family of models';

COMMENT ON COLUMN public.signals.model IS 'The model whose rows were watched';

COMMENT ON COLUMN public.signals.as_of IS 'The night (UTC) that was watched';

COMMENT ON COLUMN public.signals.signal IS 'missing, unseen, out_of_range, drift, score_drift or estimated';

COMMENT ON COLUMN public.signals.feature IS 'Which feature; empty where the signal is about scores';

COMMENT ON COLUMN public.signals.value IS 'A share of rows, a distance from 0 to 1, or (estimated) a fall of the metric';

COMMENT ON COLUMN public.signals.level IS 'ok, warn or alert, by the family''s levels';

COMMENT ON COLUMN public.signals.row_count IS 'How many rows were looked at';

COMMENT ON COLUMN public.signals.model_version IS 'The version whose training they were held against';

ALTER TABLE ONLY nightshift.alert_deliveries
    ADD CONSTRAINT alert_deliveries_pkey PRIMARY KEY (alert_id, notifier);

ALTER TABLE ONLY nightshift.alerts
    ADD CONSTRAINT alerts_family_cause_subject_key UNIQUE (family, cause, subject);

ALTER TABLE ONLY nightshift.alerts
    ADD CONSTRAINT alerts_pkey PRIMARY KEY (alert_id);

ALTER TABLE ONLY nightshift.answers
    ADD CONSTRAINT answers_pkey PRIMARY KEY (approval_id);

ALTER TABLE ONLY nightshift.approvals
    ADD CONSTRAINT approvals_comparison_id_key UNIQUE (comparison_id);

ALTER TABLE ONLY nightshift.approvals
    ADD CONSTRAINT approvals_pkey PRIMARY KEY (approval_id);

ALTER TABLE ONLY nightshift.batch_models
    ADD CONSTRAINT batch_models_pkey PRIMARY KEY (batch_id, model_id);

ALTER TABLE ONLY nightshift.batch_parts
    ADD CONSTRAINT batch_parts_pkey PRIMARY KEY (batch_id, part);

ALTER TABLE ONLY nightshift.batches
    ADD CONSTRAINT batches_pkey PRIMARY KEY (batch_id);

ALTER TABLE ONLY nightshift.collected_artifacts
    ADD CONSTRAINT collected_artifacts_pkey PRIMARY KEY (artifact_hash);

ALTER TABLE ONLY nightshift.comparisons
    ADD CONSTRAINT comparisons_decision_id_key UNIQUE (decision_id);

ALTER TABLE ONLY nightshift.comparisons
    ADD CONSTRAINT comparisons_pkey PRIMARY KEY (comparison_id);

ALTER TABLE ONLY nightshift.decisions
    ADD CONSTRAINT decisions_model_id_subject_key UNIQUE (model_id, subject);

ALTER TABLE ONLY nightshift.decisions
    ADD CONSTRAINT decisions_pkey PRIMARY KEY (decision_id);

ALTER TABLE ONLY nightshift.decisions
    ADD CONSTRAINT decisions_seq_key UNIQUE (seq);

ALTER TABLE ONLY nightshift.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (event_id);

ALTER TABLE ONLY nightshift.exclusions
    ADD CONSTRAINT exclusions_pkey PRIMARY KEY (exclusion_id);

ALTER TABLE ONLY nightshift.holds
    ADD CONSTRAINT holds_pkey PRIMARY KEY (hold_id);

ALTER TABLE ONLY nightshift.label_collections
    ADD CONSTRAINT label_collections_pkey PRIMARY KEY (collection_id);

ALTER TABLE ONLY nightshift.labels
    ADD CONSTRAINT labels_family_entity_id_answers_stated_at_value_key UNIQUE NULLS NOT DISTINCT (family, entity_id, answers, stated_at, value);

ALTER TABLE ONLY nightshift.labels
    ADD CONSTRAINT labels_pkey PRIMARY KEY (label_id);

ALTER TABLE ONLY nightshift.labels_set_aside
    ADD CONSTRAINT labels_set_aside_family_entity_id_answers_stated_at_value_key UNIQUE NULLS NOT DISTINCT (family, entity_id, answers, stated_at, value);

ALTER TABLE ONLY nightshift.measurements
    ADD CONSTRAINT measurements_model_id_as_of_metric_basis_version_id_slice_key UNIQUE NULLS NOT DISTINCT (model_id, as_of, metric, basis, version_id, slice);

ALTER TABLE ONLY nightshift.measurements
    ADD CONSTRAINT measurements_pkey PRIMARY KEY (measurement_id);

ALTER TABLE ONLY nightshift.memberships
    ADD CONSTRAINT memberships_pkey PRIMARY KEY (model_id, as_of);

ALTER TABLE ONLY nightshift.models
    ADD CONSTRAINT models_family_name_key UNIQUE (family, name);

ALTER TABLE ONLY nightshift.models
    ADD CONSTRAINT models_pkey PRIMARY KEY (model_id);

ALTER TABLE ONLY nightshift.promotions
    ADD CONSTRAINT promotions_pkey PRIMARY KEY (model_id, seq);

ALTER TABLE ONLY nightshift.pseudonym_keys
    ADD CONSTRAINT pseudonym_keys_pkey PRIMARY KEY (family);

ALTER TABLE ONLY nightshift.published
    ADD CONSTRAINT published_pkey PRIMARY KEY (family, as_of);

ALTER TABLE ONLY nightshift.recollections
    ADD CONSTRAINT recollections_pkey PRIMARY KEY (model_id, seq, version_id, as_of);

ALTER TABLE ONLY nightshift.retirements
    ADD CONSTRAINT retirements_pkey PRIMARY KEY (month);

ALTER TABLE ONLY nightshift.schema_version
    ADD CONSTRAINT schema_version_pkc PRIMARY KEY (version_num);

ALTER TABLE ONLY nightshift.shadows
    ADD CONSTRAINT shadows_decision_id_key UNIQUE (decision_id);

ALTER TABLE ONLY nightshift.shadows
    ADD CONSTRAINT shadows_pkey PRIMARY KEY (shadow_id);

ALTER TABLE ONLY nightshift.signals
    ADD CONSTRAINT signals_pkey PRIMARY KEY (batch_id, model_id, signal, feature);

ALTER TABLE ONLY nightshift.snapshots
    ADD CONSTRAINT snapshots_family_as_of_revision_key UNIQUE (family, as_of, revision);

ALTER TABLE ONLY nightshift.snapshots
    ADD CONSTRAINT snapshots_pkey PRIMARY KEY (snapshot_id);

ALTER TABLE ONLY nightshift.trials
    ADD CONSTRAINT trials_pkey PRIMARY KEY (model_id, as_of, kind, newer);

ALTER TABLE ONLY nightshift.validations
    ADD CONSTRAINT validations_pkey PRIMARY KEY (validation_id);

ALTER TABLE ONLY nightshift.versions
    ADD CONSTRAINT versions_decision_id_made_as_key UNIQUE (decision_id, made_as);

ALTER TABLE ONLY nightshift.versions
    ADD CONSTRAINT versions_model_id_number_key UNIQUE (model_id, number);

ALTER TABLE ONLY nightshift.versions
    ADD CONSTRAINT versions_pkey PRIMARY KEY (version_id);

CREATE INDEX alerts_family_raised_at_idx ON nightshift.alerts USING btree (family, raised_at);

CREATE INDEX batch_models_model_id_idx ON nightshift.batch_models USING btree (model_id);

CREATE INDEX batches_family_as_of_idx ON nightshift.batches USING btree (family, as_of);

CREATE INDEX comparisons_challenger_version_idx ON nightshift.comparisons USING btree (challenger_version);

CREATE INDEX decisions_about_about_id_idx ON nightshift.decisions USING btree (about, about_id) WHERE (about_id IS NOT NULL);

CREATE INDEX decisions_as_of_idx ON nightshift.decisions USING btree (as_of) WHERE (kind = 'retrain'::text);

CREATE INDEX decisions_model_id_as_of_decision_id_idx ON nightshift.decisions USING btree (model_id, as_of, decision_id);

CREATE INDEX decisions_model_id_as_of_idx ON nightshift.decisions USING btree (model_id, as_of) WHERE (kind = 'retrain'::text);

CREATE INDEX events_family_as_of_idx ON nightshift.events USING btree (family, as_of);

CREATE INDEX events_family_happened_at_idx ON nightshift.events USING btree (family, happened_at);

CREATE INDEX exclusions_family_entity_id_exclusion_id_idx ON nightshift.exclusions USING btree (family, entity_id, exclusion_id);

CREATE INDEX holds_family_hold_id_idx ON nightshift.holds USING btree (family, hold_id);

CREATE INDEX label_collections_family_as_of_idx ON nightshift.label_collections USING btree (family, as_of);

CREATE INDEX labels_by_time ON nightshift.labels USING btree (family, (known_at AT TIME ZONE 'UTC'::text));

CREATE INDEX labels_set_aside_family_collected_at_idx ON nightshift.labels_set_aside USING btree (family, collected_at);

CREATE INDEX measurements_as_of_model_id_idx ON nightshift.measurements USING btree (as_of, model_id);

CREATE INDEX measurements_at_a_glance ON nightshift.measurements USING btree (model_id, as_of) INCLUDE (value) WHERE (decisive AND (basis = 'realized'::text) AND (slice = ''::text) AND (version_id IS NOT NULL));

CREATE INDEX prediction_rows_batch_id_idx ON ONLY nightshift.prediction_rows USING btree (batch_id);

CREATE INDEX prediction_rows_entity_id_as_of_batch_id_model_id_idx ON ONLY nightshift.prediction_rows USING btree (entity_id, as_of DESC) INCLUDE (batch_id, model_id) WHERE (role = 0);

CREATE UNIQUE INDEX published_batch_id_idx ON nightshift.published USING btree (batch_id);

CREATE INDEX shadows_model_id_idx ON nightshift.shadows USING btree (model_id);

CREATE INDEX signals_at_alert ON nightshift.signals USING btree (batch_id, model_id) WHERE (level = 'alert'::text);

CREATE INDEX signals_model_id_idx ON nightshift.signals USING btree (model_id);

CREATE INDEX validations_snapshot_id_idx ON nightshift.validations USING btree (snapshot_id);

CREATE TRIGGER chain BEFORE INSERT ON nightshift.decisions FOR EACH ROW EXECUTE FUNCTION nightshift.chain_decision();

ALTER TABLE ONLY nightshift.alert_deliveries
    ADD CONSTRAINT alert_deliveries_alert_id_fkey FOREIGN KEY (alert_id) REFERENCES nightshift.alerts(alert_id);

ALTER TABLE ONLY nightshift.answers
    ADD CONSTRAINT answers_approval_id_fkey FOREIGN KEY (approval_id) REFERENCES nightshift.approvals(approval_id);

ALTER TABLE ONLY nightshift.answers
    ADD CONSTRAINT answers_decision_id_fkey FOREIGN KEY (decision_id) REFERENCES nightshift.decisions(decision_id);

ALTER TABLE ONLY nightshift.approvals
    ADD CONSTRAINT approvals_comparison_id_fkey FOREIGN KEY (comparison_id) REFERENCES nightshift.comparisons(comparison_id);

ALTER TABLE ONLY nightshift.batch_models
    ADD CONSTRAINT batch_models_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES nightshift.batches(batch_id);

ALTER TABLE ONLY nightshift.batch_models
    ADD CONSTRAINT batch_models_model_id_fkey FOREIGN KEY (model_id) REFERENCES nightshift.models(model_id);

ALTER TABLE ONLY nightshift.batch_models
    ADD CONSTRAINT batch_models_version_id_fkey FOREIGN KEY (version_id) REFERENCES nightshift.versions(version_id);

ALTER TABLE ONLY nightshift.batch_parts
    ADD CONSTRAINT batch_parts_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES nightshift.batches(batch_id);

ALTER TABLE ONLY nightshift.batches
    ADD CONSTRAINT batches_snapshot_id_fkey FOREIGN KEY (snapshot_id) REFERENCES nightshift.snapshots(snapshot_id);

ALTER TABLE ONLY nightshift.comparisons
    ADD CONSTRAINT comparisons_challenger_version_fkey FOREIGN KEY (challenger_version) REFERENCES nightshift.versions(version_id);

ALTER TABLE ONLY nightshift.comparisons
    ADD CONSTRAINT comparisons_champion_version_fkey FOREIGN KEY (champion_version) REFERENCES nightshift.versions(version_id);

ALTER TABLE ONLY nightshift.comparisons
    ADD CONSTRAINT comparisons_decision_id_fkey FOREIGN KEY (decision_id) REFERENCES nightshift.decisions(decision_id);

ALTER TABLE ONLY nightshift.decisions
    ADD CONSTRAINT decisions_model_id_fkey FOREIGN KEY (model_id) REFERENCES nightshift.models(model_id);

ALTER TABLE ONLY nightshift.measurements
    ADD CONSTRAINT measurements_model_id_fkey FOREIGN KEY (model_id) REFERENCES nightshift.models(model_id);

ALTER TABLE ONLY nightshift.measurements
    ADD CONSTRAINT measurements_version_id_fkey FOREIGN KEY (version_id) REFERENCES nightshift.versions(version_id);

ALTER TABLE ONLY nightshift.memberships
    ADD CONSTRAINT memberships_model_id_fkey FOREIGN KEY (model_id) REFERENCES nightshift.models(model_id);

ALTER TABLE ONLY nightshift.promotions
    ADD CONSTRAINT promotions_decision_id_fkey FOREIGN KEY (decision_id) REFERENCES nightshift.decisions(decision_id);

ALTER TABLE ONLY nightshift.promotions
    ADD CONSTRAINT promotions_model_id_fkey FOREIGN KEY (model_id) REFERENCES nightshift.models(model_id);

ALTER TABLE ONLY nightshift.promotions
    ADD CONSTRAINT promotions_version_id_fkey FOREIGN KEY (version_id) REFERENCES nightshift.versions(version_id);

ALTER TABLE ONLY nightshift.published
    ADD CONSTRAINT published_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES nightshift.batches(batch_id);

ALTER TABLE ONLY nightshift.recollections
    ADD CONSTRAINT recollections_model_id_fkey FOREIGN KEY (model_id) REFERENCES nightshift.models(model_id);

ALTER TABLE ONLY nightshift.recollections
    ADD CONSTRAINT recollections_version_id_fkey FOREIGN KEY (version_id) REFERENCES nightshift.versions(version_id);

ALTER TABLE ONLY nightshift.shadows
    ADD CONSTRAINT shadows_comparison_id_fkey FOREIGN KEY (comparison_id) REFERENCES nightshift.comparisons(comparison_id);

ALTER TABLE ONLY nightshift.shadows
    ADD CONSTRAINT shadows_decision_id_fkey FOREIGN KEY (decision_id) REFERENCES nightshift.decisions(decision_id);

ALTER TABLE ONLY nightshift.shadows
    ADD CONSTRAINT shadows_instead_of_fkey FOREIGN KEY (instead_of) REFERENCES nightshift.versions(version_id);

ALTER TABLE ONLY nightshift.shadows
    ADD CONSTRAINT shadows_model_id_fkey FOREIGN KEY (model_id) REFERENCES nightshift.models(model_id);

ALTER TABLE ONLY nightshift.shadows
    ADD CONSTRAINT shadows_version_id_fkey FOREIGN KEY (version_id) REFERENCES nightshift.versions(version_id);

ALTER TABLE ONLY nightshift.signals
    ADD CONSTRAINT signals_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES nightshift.batches(batch_id);

ALTER TABLE ONLY nightshift.signals
    ADD CONSTRAINT signals_model_id_fkey FOREIGN KEY (model_id) REFERENCES nightshift.models(model_id);

ALTER TABLE ONLY nightshift.signals
    ADD CONSTRAINT signals_version_id_fkey FOREIGN KEY (version_id) REFERENCES nightshift.versions(version_id);

ALTER TABLE ONLY nightshift.trials
    ADD CONSTRAINT trials_model_id_fkey FOREIGN KEY (model_id) REFERENCES nightshift.models(model_id);

ALTER TABLE ONLY nightshift.trials
    ADD CONSTRAINT trials_newer_fkey FOREIGN KEY (newer) REFERENCES nightshift.versions(version_id);

ALTER TABLE ONLY nightshift.trials
    ADD CONSTRAINT trials_older_fkey FOREIGN KEY (older) REFERENCES nightshift.versions(version_id);

ALTER TABLE ONLY nightshift.validations
    ADD CONSTRAINT validations_snapshot_id_fkey FOREIGN KEY (snapshot_id) REFERENCES nightshift.snapshots(snapshot_id);

ALTER TABLE ONLY nightshift.versions
    ADD CONSTRAINT versions_decision_id_fkey FOREIGN KEY (decision_id) REFERENCES nightshift.decisions(decision_id);

ALTER TABLE ONLY nightshift.versions
    ADD CONSTRAINT versions_model_id_fkey FOREIGN KEY (model_id) REFERENCES nightshift.models(model_id);

GRANT USAGE ON SCHEMA nightshift TO nightshift_writer;

REVOKE ALL ON FUNCTION nightshift.bare_key(entity text) FROM PUBLIC;
GRANT ALL ON FUNCTION nightshift.bare_key(entity text) TO nightshift_writer;

GRANT SELECT,INSERT ON TABLE nightshift.decisions TO nightshift_writer;

GRANT SELECT,INSERT ON TABLE nightshift.measurements TO nightshift_writer;

REVOKE ALL ON FUNCTION nightshift.decisive_measurements() FROM PUBLIC;
GRANT ALL ON FUNCTION nightshift.decisive_measurements() TO nightshift_writer;

REVOKE ALL ON FUNCTION nightshift.labelled_rows(of_family text, since timestamp with time zone, until timestamp with time zone, known_by timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION nightshift.labelled_rows(of_family text, since timestamp with time zone, until timestamp with time zone, known_by timestamp with time zone) TO nightshift_writer;

GRANT SELECT,INSERT ON TABLE nightshift.labels TO nightshift_writer;

REVOKE ALL ON FUNCTION nightshift.labels_known(of_family text, since timestamp with time zone, until timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION nightshift.labels_known(of_family text, since timestamp with time zone, until timestamp with time zone) TO nightshift_writer;

GRANT SELECT,INSERT ON TABLE nightshift.published TO nightshift_writer;

GRANT UPDATE(batch_id) ON TABLE nightshift.published TO nightshift_writer;

GRANT UPDATE(published_at) ON TABLE nightshift.published TO nightshift_writer;

REVOKE ALL ON FUNCTION nightshift.last_night(of_family text) FROM PUBLIC;
GRANT ALL ON FUNCTION nightshift.last_night(of_family text) TO nightshift_writer;

GRANT SELECT,INSERT ON TABLE nightshift.snapshots TO nightshift_writer;

REVOKE ALL ON FUNCTION nightshift.latest_snapshots() FROM PUBLIC;
GRANT ALL ON FUNCTION nightshift.latest_snapshots() TO nightshift_writer;

GRANT SELECT,INSERT ON TABLE nightshift.validations TO nightshift_writer;

REVOKE ALL ON FUNCTION nightshift.latest_validation(of_snapshot integer) FROM PUBLIC;
GRANT ALL ON FUNCTION nightshift.latest_validation(of_snapshot integer) TO nightshift_writer;

GRANT SELECT,INSERT ON TABLE nightshift.memberships TO nightshift_writer;

REVOKE ALL ON FUNCTION nightshift.membership_at(of_model integer, moment timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION nightshift.membership_at(of_model integer, moment timestamp with time zone) TO nightshift_writer;

GRANT SELECT,INSERT ON TABLE nightshift.approvals TO nightshift_writer;

REVOKE ALL ON FUNCTION nightshift.open_approvals() FROM PUBLIC;
GRANT ALL ON FUNCTION nightshift.open_approvals() TO nightshift_writer;

REVOKE ALL ON FUNCTION nightshift.open_month(moment timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION nightshift.open_month(moment timestamp with time zone) TO nightshift_writer;

GRANT SELECT,INSERT ON TABLE nightshift.shadows TO nightshift_writer;

REVOKE ALL ON FUNCTION nightshift.open_shadows() FROM PUBLIC;
GRANT ALL ON FUNCTION nightshift.open_shadows() TO nightshift_writer;

GRANT SELECT,INSERT ON TABLE nightshift.promotions TO nightshift_writer;

REVOKE ALL ON FUNCTION nightshift.promotion_at(of_model integer, moment timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION nightshift.promotion_at(of_model integer, moment timestamp with time zone) TO nightshift_writer;

GRANT SELECT,INSERT,DELETE ON TABLE nightshift.prediction_rows TO nightshift_writer;

REVOKE ALL ON FUNCTION nightshift.published_rows(of_family text, since timestamp with time zone, until timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION nightshift.published_rows(of_family text, since timestamp with time zone, until timestamp with time zone) TO nightshift_writer;

REVOKE ALL ON FUNCTION nightshift.recount_labels(added bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION nightshift.recount_labels(added bigint) TO nightshift_writer;

REVOKE ALL ON FUNCTION nightshift.retire_month(before timestamp with time zone, now timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION nightshift.retire_month(before timestamp with time zone, now timestamp with time zone) TO nightshift_writer;

REVOKE ALL ON FUNCTION nightshift.show_family(family text, task text) FROM PUBLIC;
GRANT ALL ON FUNCTION nightshift.show_family(family text, task text) TO nightshift_writer;

REVOKE ALL ON FUNCTION nightshift.truth(of_family text, entity text, night timestamp with time zone, known_by timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION nightshift.truth(of_family text, entity text, night timestamp with time zone, known_by timestamp with time zone) TO nightshift_writer;

GRANT SELECT,INSERT ON TABLE nightshift.alert_deliveries TO nightshift_writer;

GRANT SELECT,INSERT ON TABLE nightshift.alerts TO nightshift_writer;

GRANT SELECT,INSERT ON TABLE nightshift.answers TO nightshift_writer;

GRANT SELECT,INSERT ON TABLE nightshift.batch_models TO nightshift_writer;

GRANT SELECT,INSERT ON TABLE nightshift.batch_parts TO nightshift_writer;

GRANT UPDATE(row_count) ON TABLE nightshift.batch_parts TO nightshift_writer;

GRANT UPDATE(written_at) ON TABLE nightshift.batch_parts TO nightshift_writer;

GRANT UPDATE(failed) ON TABLE nightshift.batch_parts TO nightshift_writer;

GRANT UPDATE(shadows_at) ON TABLE nightshift.batch_parts TO nightshift_writer;

GRANT UPDATE(failed_shadows) ON TABLE nightshift.batch_parts TO nightshift_writer;

GRANT SELECT,INSERT ON TABLE nightshift.batches TO nightshift_writer;

GRANT UPDATE(row_count) ON TABLE nightshift.batches TO nightshift_writer;

GRANT UPDATE(state) ON TABLE nightshift.batches TO nightshift_writer;

GRANT UPDATE(written_at) ON TABLE nightshift.batches TO nightshift_writer;

GRANT UPDATE(purged_at) ON TABLE nightshift.batches TO nightshift_writer;

GRANT UPDATE(skipped_rows) ON TABLE nightshift.batches TO nightshift_writer;

GRANT UPDATE(failed_rows) ON TABLE nightshift.batches TO nightshift_writer;

GRANT SELECT,INSERT ON TABLE nightshift.collected_artifacts TO nightshift_writer;

GRANT SELECT,INSERT ON TABLE nightshift.comparisons TO nightshift_writer;

GRANT SELECT,INSERT ON TABLE nightshift.events TO nightshift_writer;

GRANT SELECT,INSERT ON TABLE nightshift.exclusions TO nightshift_writer;

GRANT SELECT,INSERT ON TABLE nightshift.holds TO nightshift_writer;

GRANT SELECT,INSERT ON TABLE nightshift.label_collections TO nightshift_writer;

GRANT SELECT,INSERT ON TABLE nightshift.labels_set_aside TO nightshift_writer;

GRANT SELECT,INSERT ON TABLE nightshift.models TO nightshift_writer;

GRANT SELECT,INSERT ON TABLE nightshift.pseudonym_keys TO nightshift_writer;

GRANT SELECT,INSERT ON TABLE nightshift.recollections TO nightshift_writer;

GRANT SELECT ON TABLE nightshift.retirements TO nightshift_writer;

GRANT SELECT ON TABLE nightshift.schema_version TO nightshift_writer;

GRANT SELECT,INSERT ON TABLE nightshift.signals TO nightshift_writer;

GRANT SELECT,INSERT ON TABLE nightshift.trials TO nightshift_writer;

GRANT SELECT,INSERT ON TABLE nightshift.versions TO nightshift_writer;

GRANT SELECT ON TABLE nightshift.version_records TO nightshift_writer;

GRANT SELECT ON TABLE public.champions TO nightshift_reader;
GRANT SELECT ON TABLE public.champions TO nightshift_writer;

GRANT SELECT ON TABLE public.contract TO nightshift_reader;
GRANT SELECT ON TABLE public.contract TO nightshift_writer;

GRANT SELECT ON TABLE public.decisions TO nightshift_reader;
GRANT SELECT ON TABLE public.decisions TO nightshift_writer;

GRANT SELECT ON TABLE public.models TO nightshift_reader;
GRANT SELECT ON TABLE public.models TO nightshift_writer;

GRANT SELECT ON TABLE public.nights TO nightshift_reader;
GRANT SELECT ON TABLE public.nights TO nightshift_writer;

GRANT SELECT ON TABLE public.performance TO nightshift_reader;
GRANT SELECT ON TABLE public.performance TO nightshift_writer;

GRANT SELECT ON TABLE public.predictions TO nightshift_reader;
GRANT SELECT ON TABLE public.predictions TO nightshift_writer;

GRANT SELECT ON TABLE public.predictions_latest TO nightshift_reader;
GRANT SELECT ON TABLE public.predictions_latest TO nightshift_writer;

GRANT SELECT ON TABLE public.signals TO nightshift_reader;
GRANT SELECT ON TABLE public.signals TO nightshift_writer;

insert into nightshift.schema_version values ('0018');
