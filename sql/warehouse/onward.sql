-- The schedule goes on by itself: service dates after :after up to :until repeat those of 52 weeks before,
-- by the local wall clock. What will happen on them is written too, and stays unseen until it has.

create temporary table onward on commit drop as
select to_char(service_date + 364, 'YYYY-MM-DD') || substr(flight_id, 11) as flight_id,
       service_date + 364 as service_date,
       ((sched_departure at time zone 'America/New_York') + interval '364 days') at time zone 'America/New_York'
           as sched_departure,
       sched_arrival - sched_departure as block,
       carrier, flight, origin, dest, distance,
       a.tail_number, a.departed_at - sched_departure as departure_delay, a.air_time, a.arrival_delay
from public.schedule s
left join replay.actuals a using (flight_id)
where service_date > cast(:after as date) - 364 and service_date <= cast(:until as date) - 364;

insert into public.schedule
select flight_id, service_date, sched_departure, sched_departure + block, carrier, flight, origin, dest, distance
from onward
order by flight_id;

insert into replay.actuals
select flight_id, tail_number, sched_departure + departure_delay,
       sched_departure + block + make_interval(mins => arrival_delay), air_time, arrival_delay,
       sched_departure + block + make_interval(mins => arrival_delay)
from onward
where arrival_delay is not null
order by flight_id;

insert into replay.weather
select w.origin, m.hour_start, temperature, dew_point, humidity, wind_direction, wind_speed, wind_gust,
       precipitation, pressure, visibility, m.hour_start + interval '1 hour'
from replay.weather w
cross join lateral (
    select ((w.observed_at at time zone 'America/New_York') + interval '364 days') at time zone 'America/New_York'
           as hour_start
) m
where m.hour_start at time zone 'America/New_York' >= cast(:after as date) + 1
  and m.hour_start at time zone 'America/New_York' < cast(:until as date) + 1
on conflict do nothing;

drop table onward;
