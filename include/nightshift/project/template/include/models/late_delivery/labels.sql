-- Whether an order came late, known at noon of the second day after it was placed.
-- Invented as in features.sql: far orders, and those that go by south, are late more often.
select
    to_char(day, 'YYYYMMDD') || '-' || number as entity_id,
    cast(distance + case carrier when 'south' then 150 else 0 end + chance > 500 as int) as value,
    known_at - interval '6 hours' as event_at,
    known_at
from generate_series(1, 200) as orders (number)
cross join generate_series(
    cast(cast(:since as timestamptz) at time zone 'UTC' as date) - date '2000-01-01' - 3,
    cast(cast(:as_of as timestamptz) at time zone 'UTC' as date) - date '2000-01-01'
) as days (since_2000)
cross join lateral (
    select
        date '2000-01-01' + since_2000 as day,
        cast(extract(doy from date '2000-01-01' + since_2000) as int) as doy
) as placed
cross join lateral (
    select
        (number * 7919 + doy * 104729) % 500 as distance,
        (array['north', 'south', 'express'])[1 + (number + number / 7) % 3] as carrier,
        (number * 6007 + doy * 3571) % 200 as chance,
        (day + interval '2 days 12 hours') at time zone 'UTC' as known_at
) as about
where known_at > cast(:since as timestamptz)
  and known_at <= cast(:as_of as timestamptz)
