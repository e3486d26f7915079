-- The year 2013 as recorded (temporary tables recorded_*), moved by :shift_days.

insert into replay.anchor (shift_days, loaded_on) values (cast(:shift_days as int), cast(:today as date));

insert into public.planes
select tailnum, year, type, manufacturer, model, engines, seats, engine from recorded_planes;

insert into public.airports
select faa, name, lat, lon, alt, tzone from recorded_airports;

-- The record leaves out the four airports of Puerto Rico and the Virgin Islands.
insert into public.airports values
    ('BQN', 'Rafael Hernandez', 18.4949, -67.1294, 237, 'America/Puerto_Rico'),
    ('PSE', 'Mercedita', 18.0083, -66.5630, 29, 'America/Puerto_Rico'),
    ('SJU', 'Luis Munoz Marin Intl', 18.4394, -66.0018, 9, 'America/Puerto_Rico'),
    ('STT', 'Cyril E King', 18.3373, -64.9734, 23, 'America/St_Thomas')
on conflict do nothing;

-- Departures keep their local wall clock: the moved date decides its offset from UTC. Arrivals keep their
-- distance from the departure, so no flight gets longer or shorter where daylight saving differs.
create temporary table moved on commit drop as
with recorded as (
    select f.*, a.time_zone,
           make_date(f.year, f.month, f.day) as recorded_date,
           make_interval(mins => f.sched_dep_time / 100 * 60 + f.sched_dep_time % 100) as departure,
           make_interval(mins => f.sched_arr_time / 100 * 60 + f.sched_arr_time % 100) as arrival
    from recorded_flights f
    join public.airports a on a.airport = f.dest
),
timed as (
    select *,
           recorded_date + cast(:shift_days as int) as service_date,
           (recorded_date + departure) at time zone 'America/New_York' as departs,
           (recorded_date + arrival) at time zone time_zone as arrives,
           (recorded_date + 1 + arrival) at time zone time_zone as arrives_next_day
    from recorded
)
select to_char(service_date, 'YYYY-MM-DD') || '/' || carrier || flight || '/' || origin || '/'
           || to_char(departure, 'HH24MI') as flight_id,
       service_date,
       (service_date + departure) at time zone 'America/New_York' as sched_departure,
       -- The record has times of day only: an arrival that would precede its departure is on the next day.
       case when arrives > departs then arrives else arrives_next_day end - departs as block,
       carrier, flight, origin, dest, distance, tailnum,
       dep_delay, arr_delay, air_time
from timed;

insert into public.schedule
select flight_id, service_date, sched_departure, sched_departure + block, carrier, flight, origin, dest, distance
from moved
order by flight_id;

insert into replay.actuals
select flight_id, tailnum, sched_departure + make_interval(mins => dep_delay),
       sched_departure + block + make_interval(mins => arr_delay), air_time, arr_delay,
       sched_departure + block + make_interval(mins => arr_delay)
from moved
where arr_delay is not null
order by flight_id;

-- An hour that the moved calendar skips in spring lands on the next one, which has its own observation.
insert into replay.weather
select w.origin, m.hour_start, temp, dewp, humid, wind_dir, wind_speed, wind_gust, precip, pressure, visib,
       m.hour_start + interval '1 hour'
from recorded_weather w
cross join lateral (
    select (make_timestamp(w.year, w.month, w.day, w.hour, 0, 0) + make_interval(days => cast(:shift_days as int)))
           at time zone 'America/New_York' as hour_start
) m
on conflict do nothing;
