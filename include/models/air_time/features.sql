-- One row for each flight of the service date that begins in New York after as_of.
-- Every column is part of the published schedule, which is out months before a flight leaves. The plane is
-- not: the one on record is the one that flew, which is settled later.
select
    flight_id as entity_id,
    -- Of the route: known since there is one.
    distance,
    -- Of the timetable: published months ahead.
    cast(extract(hour from local_departure) * 60 + extract(minute from local_departure) as int) as minute_of_day,
    -- Who flies, from where to where: of the timetable as well.
    carrier,
    origin,
    dest
from schedule
cross join lateral (select sched_departure at time zone 'America/New_York' as local_departure) clock
where service_date = cast(cast(:as_of as timestamptz) at time zone 'America/New_York' as date) + 1
