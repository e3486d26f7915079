-- The warehouse as an airline's operations would hold it. The tables below the schema replay know the
-- future; what is public does not, except for the schedule, which airlines publish ahead.
-- Statements end with a semicolon at the end of a line; each runs by itself.

create schema if not exists replay;

create table if not exists replay.anchor (
    only_one   boolean primary key default true check (only_one),
    shift_days int not null check (shift_days % 7 = 0),
    loaded_on  date not null
);

comment on table replay.anchor is
    'How many days the calendar of 2013 was moved: whole weeks, chosen once, so that a Monday stays a Monday.';

create table if not exists public.planes (
    tail_number  text primary key,
    built        int,
    kind         text not null,
    manufacturer text not null,
    model        text not null,
    engines      int not null,
    seats        int not null,
    engine       text not null
);

create table if not exists public.airports (
    airport   text primary key,
    name      text not null,
    latitude  double precision not null,
    longitude double precision not null,
    altitude  int,
    time_zone text
);

comment on column public.airports.altitude is 'In feet; null where unknown.';

create table if not exists public.schedule (
    flight_id       text collate "C" primary key,
    service_date    date not null,
    sched_departure timestamptz not null,
    sched_arrival   timestamptz not null check (sched_arrival > sched_departure),
    carrier         text not null,
    flight          int not null,
    origin          text not null,
    dest            text not null,
    distance        int not null
);

comment on table public.schedule is 'Every flight out of New York, published long before it flies.';

comment on column public.schedule.flight_id is 'Service date, carrier and number, origin, local departure time: 2026-11-20/UA1545/EWR/0515.';

comment on column public.schedule.service_date is 'The local date of the scheduled departure.';

comment on column public.schedule.distance is 'In miles.';

create index if not exists schedule_by_service_date on public.schedule (service_date);

create table if not exists replay.actuals (
    flight_id     text collate "C" primary key,
    tail_number   text,
    departed_at   timestamptz not null,
    landed_at     timestamptz not null check (landed_at > departed_at),
    air_time      int not null,
    arrival_delay int not null,
    known_at      timestamptz not null
);

create index if not exists actuals_by_known_at on replay.actuals (known_at);

create or replace view public.actuals as
    select flight_id, tail_number, departed_at, landed_at, air_time, arrival_delay, known_at
    from replay.actuals
    where known_at <= now();

comment on view public.actuals is
    'What happened, from the minute of landing on. Cancelled and diverted flights have no row.';

comment on column public.actuals.tail_number is 'The plane that flew, which may not be the one that was planned.';

comment on column public.actuals.air_time is 'Minutes from lift-off to touch-down.';

comment on column public.actuals.arrival_delay is 'Minutes after the scheduled arrival; negative when early.';

comment on column public.actuals.known_at is 'When this row could first be read: the moment of landing.';

create table if not exists replay.weather (
    origin         text not null,
    observed_at    timestamptz not null,
    temperature    double precision,
    dew_point      double precision,
    humidity       double precision,
    wind_direction int,
    wind_speed     double precision,
    wind_gust      double precision,
    precipitation  double precision,
    pressure       double precision,
    visibility     double precision,
    known_at       timestamptz not null,
    primary key (origin, observed_at)
);

create index if not exists weather_by_known_at on replay.weather (origin, known_at);

create or replace view public.weather as
    select origin, observed_at, temperature, dew_point, humidity, wind_direction, wind_speed, wind_gust,
           precipitation, pressure, visibility, known_at
    from replay.weather
    where known_at <= now();

comment on view public.weather is
    'Hourly observations at the three New York airports, in the units of the US weather service (Fahrenheit, mph, inches, millibars, miles).';

comment on column public.weather.known_at is 'When the observed hour was over, which is when its row could first be read.';

grant usage on schema public to public;

grant select on public.schedule, public.actuals, public.planes, public.airports, public.weather to public;
