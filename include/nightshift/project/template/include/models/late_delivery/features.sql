-- One row for each order that was placed on the day before as_of.
-- The orders are invented, by arithmetic, so that this family runs on any Postgres as it is: put a
-- table of yours in their place, and ask it for what was known at :as_of.
select
    to_char(day, 'YYYYMMDD') || '-' || number as entity_id,
    (number * 7919 + cast(extract(doy from day) as int) * 104729) % 500 as distance,
    1 + (number * 31 + cast(extract(doy from day) as int) * 17) % 9 as items,
    (array['north', 'south', 'express'])[1 + (number + number / 7) % 3] as carrier
from generate_series(1, 200) as orders (number)
cross join lateral (
    select cast(cast(:as_of as timestamptz) at time zone 'UTC' as date) - 1 as day
) as placed
