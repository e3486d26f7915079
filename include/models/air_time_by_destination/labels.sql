-- Minutes in the air, known when the flight has landed. Cancelled and diverted flights never get a label.
select
    flight_id as entity_id,
    cast(air_time as double precision) as value,
    landed_at as event_at,
    known_at
from actuals
where known_at > cast(:since as timestamptz)
  and known_at <= cast(:as_of as timestamptz)
