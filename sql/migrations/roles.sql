-- Roles belong to the server, not to one database, so they are made before the first migration and may already be there.
-- Who makes them need be no superuser: CREATEROLE and a database of one's own are enough, which is what managed servers
-- give their administrator. From Postgres 16 on, who makes a role administers it and is no member by itself. What is
-- missing is collected and raised as one sentence (SQLSTATE NS001), and the transaction leaves nothing behind.
do $$
declare
    -- Further logins, and whether the caller acts for them: nightshift.logins, a JSON list, set by data.migrate.
    logins text[] := array(
        select value from json_array_elements_text(coalesce(nullif(current_setting('nightshift.logins', true), ''), '[]')::json));
    role_name text;
    act text := case when current_setting('server_version_num')::int >= 160000 then 'set' else 'member' end;
    acting text := case act when 'set' then ' with inherit true, set true' else '' end;
    database_owner text := (select pg_get_userbyid(datdba) from pg_database where datname = current_database());
    public_owner text := (select pg_get_userbyid(nspowner) from pg_namespace where nspname = 'public');
    schema_owner text := (select pg_get_userbyid(nspowner) from pg_namespace where nspname = 'nightshift');
    missing text[] := '{}';
begin
    public_owner := case public_owner when 'pg_database_owner' then database_owner else public_owner end;
    foreach role_name in array array['nightshift_owner', 'nightshift_writer', 'nightshift_reader'] || logins loop
        begin
            if not exists (select from pg_roles where rolname = role_name) then
                execute format('create role %I %s', role_name,
                               case role_name when 'nightshift_owner' then 'nologin' else 'login' end);
            end if;
        exception
            when duplicate_object or unique_violation then null;
            when insufficient_privilege then
                missing := missing || format('as a role with CREATEROLE: create role %1$I %2$s; grant %1$I to %3$I%4$s', role_name,
                    case role_name when 'nightshift_owner' then 'nologin' else 'login' end, current_user, acting);
                continue;
        end;
        begin
            if not pg_has_role(current_user, role_name, act) then
                execute format('grant %I to current_user%s', role_name, acting);
            end if;
        exception when insufficient_privilege or invalid_grant_operation then
            missing := missing || format('as who administers %I: grant %1$I to %I%s', role_name, current_user, acting);
        end;
    end loop;

    if missing = '{}' then
        begin
            execute format('revoke all on database %I from public', current_database());
            execute format('grant connect on database %I to nightshift_reader, nightshift_writer', current_database());
            execute format('grant temporary on database %I to nightshift_writer', current_database());
        exception when insufficient_privilege then
            null;  -- what counts is asked below: somebody else may have granted it
        end;
        if not (has_database_privilege('nightshift_reader', current_database(), 'connect')
                and has_database_privilege('nightshift_writer', current_database(), 'connect')
                and has_database_privilege('nightshift_writer', current_database(), 'temporary')) then
            missing := missing || format('as %I: grant connect on database %I to nightshift_reader; grant connect, temporary on database %2$I to nightshift_writer',
                                         database_owner, current_database());
        end if;
        begin
            revoke create on schema public from public;
            grant usage, create on schema public to nightshift_owner;
        exception when insufficient_privilege then
            null;
        end;
        if not (has_schema_privilege('nightshift_owner', 'public', 'usage')
                and has_schema_privilege('nightshift_owner', 'public', 'create')) then
            missing := missing || format('as %I: grant usage, create on schema public to nightshift_owner', public_owner);
        end if;
        begin
            if schema_owner is null then
                create schema nightshift authorization nightshift_owner;
            end if;
        exception
            when duplicate_schema or unique_violation then null;
            when insufficient_privilege then
                missing := missing || format('as %I: grant create on database %I to %I', database_owner, current_database(), current_user);
        end;
        if schema_owner <> 'nightshift_owner' then
            missing := missing || format('as %I: alter schema nightshift owner to nightshift_owner', schema_owner);
        end if;
    end if;

    if missing <> '{}' then
        raise exception '% lacks rights in the database %; let somebody run, %. Then run this again, or as an administrator (NIGHTSHIFT_ADMIN_URL): nothing was changed',
            current_user, current_database(), array_to_string(missing, '; and ') using errcode = 'NS001';
    end if;
end
$$;

-- Names mean what we mean: nobody's own schema or temporary table comes first.
do $$
declare
    role_name text;
begin
    foreach role_name in array array['nightshift_writer', 'nightshift_reader'] loop
        execute format('alter role %I in database %I set search_path = pg_catalog, public, pg_temp',
                       role_name, current_database());
    end loop;
exception when insufficient_privilege then
    raise notice 'search_path of the roles is left as it is: only who made the roles may set it';
end
$$;

-- What Postgres lets everybody do in any database: make large objects, and take locks that writers wait for.
do $$
declare
    act regprocedure;
begin
    if not (select rolsuper from pg_roles where rolname = current_user) then
        raise notice 'large objects and advisory locks stay open to readers: only a superuser may close them';
        return;
    end if;
    for act in select oid::regprocedure from pg_proc where pronamespace = 'pg_catalog'::regnamespace
               and proname ~ '^(lo_|lowrite$|loread$|pg_(try_)?advisory_)' loop
        execute format('revoke execute on function %s from public', act);
        if act::text ~ 'advisory' then
            execute format('grant execute on function %s to nightshift_owner, nightshift_writer', act);
        end if;
    end loop;
end
$$;
