-- Entities by pseudonym, and months that two nights open at once.

-- Written by pseudonyms ----------------------------------------------------------------------

create table nightshift.pseudonym_keys (
    family      text primary key,
    method      text not null check (method in ('hmac')),
    key_id      text not null check (key_id ~ '^[0-9a-f]{16}$'),
    recorded_at timestamptz not null
);
comment on table nightshift.pseudonym_keys is 'Families whose entities are told by pseudonym, and by which key: with another one, labels would meet no prediction. Append-only.';
comment on column nightshift.pseudonym_keys.key_id is 'The beginning of a SHA-256 made of the key, which is in a file and never here.';

grant select, insert on nightshift.pseudonym_keys to nightshift_writer;

-- Written by scoring -------------------------------------------------------------------------

-- As before, but what is there is looked up anew once the lock is held: to_regclass may remember
-- that a month was missing before somebody else made it.
create or replace function nightshift.open_month(moment timestamptz) returns boolean
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
    -- Two first nights of a month may begin together.
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
