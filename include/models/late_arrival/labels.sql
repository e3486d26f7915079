-- 1 when the flight landed more than 15 minutes late, else 0; known when it has landed. Cancelled and
-- diverted flights never get a label.
select
    flight_id as entity_id,
    case when arrival_delay > 15 then 1 else 0 end as value,
    landed_at as event_at,
    known_at
from actuals
where known_at > cast(:since as timestamptz)
  and known_at <= cast(:as_of as timestamptz)
