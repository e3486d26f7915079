-- Rules that many queries share, each stated once. Functions are planned as if they stood in the query.

create function nightshift.latest_validation(of_snapshot int)
returns setof nightshift.validations
language sql stable
as $$
    select v.* from nightshift.validations v where v.snapshot_id = of_snapshot order by v.validation_id desc limit 1
$$;
comment on function nightshift.latest_validation is 'The verdict that counts on a snapshot: its latest; none before it is validated.';

create function nightshift.membership_at(of_model int, moment timestamptz)
returns setof nightshift.memberships
language sql stable
as $$
    select m.* from nightshift.memberships m
    where m.model_id = of_model and m.as_of <= moment
    order by m.as_of desc limit 1
$$;
comment on function nightshift.membership_at is 'Whether a model is active at a moment, and in which group; none before its first mention.';

create function nightshift.promotion_at(of_model int, moment timestamptz)
returns setof nightshift.promotions
language sql stable
as $$
    select p.* from nightshift.promotions p
    where p.model_id = of_model and p.effective_from <= moment
    order by p.seq desc limit 1
$$;
comment on function nightshift.promotion_at is 'The promotion by which a model''s champion serves at a moment; none before the first.';

create function nightshift.last_night(of_family text)
returns setof nightshift.published
language sql stable
as $$
    select p.* from nightshift.published p where p.family = of_family order by p.as_of desc limit 1
$$;
comment on function nightshift.last_night is 'The last night that a family has published; none before the first.';

create function nightshift.labels_known(of_family text, since timestamptz, until timestamptz)
returns setof nightshift.labels
language sql stable
as $$
    select l.* from nightshift.labels l
    where l.family = of_family
      and l.known_at at time zone 'UTC' > since at time zone 'UTC'  -- as the index has it
      and l.known_at at time zone 'UTC' <= until at time zone 'UTC'
$$;
comment on function nightshift.labels_known is 'The labels of a family that became known in (since, until].';

create function nightshift.bare_key(entity text)
returns text
language sql immutable parallel safe
return lower(regexp_replace(regexp_replace(btrim(entity), '[.]0+$', ''), '^0+(?=.)', ''));
comment on function nightshift.bare_key is 'An entity_id without what spellings of one key differ by: blanks, case, leading zeros, an empty fraction.';

create function nightshift.latest_snapshots()
returns setof nightshift.snapshots
language sql stable
as $$
    select s.* from nightshift.snapshots s
    where not exists (
        select from nightshift.snapshots newer
        where newer.family = s.family and newer.as_of = s.as_of and newer.revision > s.revision)
$$;
comment on function nightshift.latest_snapshots is 'The newest snapshot of each night.';

create function nightshift.open_shadows()
returns setof nightshift.shadows
language sql stable
as $$
    select s.* from nightshift.shadows s
    where not exists (select from nightshift.decisions d where d.about = 'shadow' and d.about_id = s.shadow_id)
$$;
comment on function nightshift.open_shadows is 'Challengers in shadow about which nothing was decided yet.';

create function nightshift.open_approvals()
returns setof nightshift.approvals
language sql stable
as $$
    select a.* from nightshift.approvals a
    where not exists (select from nightshift.answers w where w.approval_id = a.approval_id)
$$;
comment on function nightshift.open_approvals is 'Approvals that nobody has answered yet.';

create function nightshift.decisive_measurements()
returns setof nightshift.measurements
language sql stable
as $$
    select x.* from nightshift.measurements x where x.decisive and x.basis = 'realized' and x.slice = ''
$$;
comment on function nightshift.decisive_measurements is 'What decisions look at: the deciding metric over all rows, as labels have shown it.';

create view nightshift.version_records as
select v.version_id, v.model_id, m.family, m.name, v.number, v.artifact_hash, v.signature, v.manifest, v.decision_id,
       v.made_as, v.trained_at, g.collected_at
from nightshift.versions v
join nightshift.models m using (model_id)
left join nightshift.collected_artifacts g using (artifact_hash);
comment on view nightshift.version_records is 'Versions with the names of their models, and when their artifacts were collected, if they were.';

grant select on nightshift.version_records to nightshift_writer;

do $$
declare
    act regprocedure;
begin
    foreach act in array array[
        'nightshift.latest_validation(int)', 'nightshift.membership_at(int, timestamptz)',
        'nightshift.promotion_at(int, timestamptz)', 'nightshift.last_night(text)',
        'nightshift.labels_known(text, timestamptz, timestamptz)', 'nightshift.bare_key(text)',
        'nightshift.latest_snapshots()', 'nightshift.open_shadows()', 'nightshift.open_approvals()',
        'nightshift.decisive_measurements()']::regprocedure[]
    loop
        execute format('revoke execute on function %s from public', act);
        execute format('grant execute on function %s to nightshift_writer', act);
    end loop;
end
$$;
