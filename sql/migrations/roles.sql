-- Roles belong to the server, not to one database, so they are made before the first migration and may already be there.
do $$
declare
    role_name text;
begin
    foreach role_name in array array['nightshift_owner', 'nightshift_writer', 'nightshift_reader'] loop
        begin
            execute format('create role %I %s', role_name,
                           case role_name when 'nightshift_owner' then 'nologin' else 'login' end);
        exception when duplicate_object or unique_violation then
            null;
        end;
        if not pg_has_role(current_user, role_name, 'member') then
            execute format('grant %I to current_user', role_name);
        end if;
    end loop;
    execute format('revoke all on database %I from public', current_database());
    execute format('grant connect on database %I to nightshift_reader, nightshift_writer', current_database());
    execute format('grant temporary on database %I to nightshift_writer', current_database());
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

revoke create on schema public from public;
grant usage, create on schema public to nightshift_owner;
create schema if not exists nightshift authorization nightshift_owner;
