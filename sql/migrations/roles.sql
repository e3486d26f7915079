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

revoke create on schema public from public;
grant usage, create on schema public to nightshift_owner;
create schema if not exists nightshift authorization nightshift_owner;
