-- One row for each flight of the service date that begins in New York after as_of.
-- Every column is part of the published schedule, which is out months before a flight leaves. The plane is
-- not: the one on record is the one that flew, which is settled later.
select
    flight_id as entity_id,
    -- Where to: it names the model.
    dest,
    -- The region of the destination, by its time zone: it names the group.
    case
        when time_zone = 'America/New_York' then 'east'
        when time_zone = 'America/Chicago' then 'middle'
        when time_zone in ('America/Denver', 'America/Phoenix') then 'mountains'
        when time_zone = 'America/Los_Angeles' then 'pacific'
        else 'overseas'
    end as region,
    -- Of the route: known since there is one.
    distance,
    -- Of the timetable: published months ahead.
    cast(extract(hour from local_departure) * 60 + extract(minute from local_departure) as int) as minute_of_day,
    carrier,
    origin
from schedule
join airports on airport = dest
cross join lateral (select sched_departure at time zone 'America/New_York' as local_departure) clock
where service_date = cast(cast(:as_of as timestamptz) at time zone 'America/New_York' as date) + 1
