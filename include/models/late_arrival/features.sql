-- One row for each flight of the service date that begins in New York after as_of.
-- What is not in the published schedule is read by its known_at, never later than as_of. The plane is left out:
-- the one on record is the one that flew, which is settled later.
with night as not materialized (
    select cast(:as_of as timestamptz) as as_of
),
-- Flights that landed in the week before as_of: each row was known by then.
landed as materialized (
    select s.carrier, s.origin, s.dest, a.known_at, a.arrival_delay, cast(a.arrival_delay > 15 as int) as late
    from night
    join actuals a on a.known_at > as_of - interval '7 days' and a.known_at <= as_of
    join schedule s using (flight_id)
    where s.service_date between cast(as_of as date) - 9 and cast(as_of as date)
),
by_origin as (
    select origin, avg(late) as late_share
    from landed, night
    where landed.known_at > as_of - interval '24 hours'
    group by origin
),
by_carrier as (
    select carrier, origin, avg(late) as late_share
    from landed
    group by carrier, origin
),
by_dest as (
    select dest, avg(late) as late_share
    from landed
    group by dest
),
-- The last observation at each airport that was known at as_of.
sky as (
    select airport.origin, w.*
    from night
    cross join (values ('EWR'), ('JFK'), ('LGA')) airport (origin)
    left join lateral (
        select temperature, humidity, wind_speed, visibility
        from weather
        where weather.origin = airport.origin
          and known_at <= as_of
          and known_at > as_of - interval '6 hours'
        order by known_at desc
        limit 1
    ) w on true
)
select
    s.flight_id as entity_id,
    -- Of the published schedule, months ahead.
    s.distance,
    cast(extract(epoch from s.sched_arrival - s.sched_departure) / 60 as int) as block_minutes,
    cast(extract(hour from local_departure) * 60 + extract(minute from local_departure) as int) as minute_of_day,
    cast(extract(isodow from s.service_date) as int) as weekday,
    s.carrier,
    s.origin,
    s.dest,
    -- Of flights that had landed by as_of: the share that was more than 15 minutes late.
    cast(by_origin.late_share as double precision) as origin_late_1d,
    cast(by_carrier.late_share as double precision) as carrier_late_7d,
    cast(by_dest.late_share as double precision) as dest_late_7d,
    -- Of observations that were in by as_of.
    sky.temperature,
    sky.humidity,
    sky.wind_speed,
    sky.visibility
from night
join schedule s on s.service_date = cast(as_of at time zone 'America/New_York' as date) + 1
cross join lateral (select s.sched_departure at time zone 'America/New_York' as local_departure) clock
left join by_origin on by_origin.origin = s.origin
left join by_carrier on by_carrier.carrier = s.carrier and by_carrier.origin = s.origin
left join by_dest on by_dest.dest = s.dest
left join sky on sky.origin = s.origin
