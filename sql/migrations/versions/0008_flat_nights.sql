-- What a night asks of tables that grow for years: found by the night, never by reading the years.

-- Labels by time. Of an expression, on purpose: looking an entity up by a plain known_at can never take this index, which
-- Postgres would do as long as it has no statistics, and read all labels of the family for each row.
drop index nightshift.labels_family_known_at_idx;
create index labels_by_time on nightshift.labels (family, (known_at at time zone 'UTC'));
-- Which families were measured at a moment.
create index on nightshift.measurements (as_of, model_id);
-- The last retrain of each model, past all its decisions to keep.
create index on nightshift.decisions (model_id, as_of) where kind = 'retrain';
-- What was refused or failed about a night.
create index on nightshift.events (family, as_of);
-- What was raised in the last day and is still to be delivered.
create index on nightshift.alerts (family, raised_at);

-- Plans are made from statistics, and those that Postgres gathers by itself come a minute late: by then, a look-up for
-- each of the labels that a new family brought at once may have read all of the others.
create function nightshift.recount_labels(added bigint) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if added > (select greatest(reltuples, 0) / 10 from pg_class where oid = 'nightshift.labels'::regclass) then
        analyze nightshift.labels;
    end if;
end
$$;
comment on function nightshift.recount_labels is 'Gather statistics of labels where so many were added that those there are do not hold any more.';
revoke execute on function nightshift.recount_labels from public;
grant execute on function nightshift.recount_labels to nightshift_writer;

-- Planned as if it stood in the query that calls it, with the rights of who asks.
create function nightshift.published_rows(of_family text, since timestamptz, until timestamptz)
returns setof nightshift.prediction_rows
language sql stable
as $$
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
comment on function nightshift.published_rows is 'The rows of a family''s published nights in (since, until], those of challengers in shadow too.';
revoke execute on function nightshift.published_rows from public;
grant execute on function nightshift.published_rows to nightshift_writer;
