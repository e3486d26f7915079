-- The truth of the first rows of each night, known an hour after it.
select to_char(night, 'YYYYMMDD') || '-' || number as entity_id, (a + b + c * d > 1.25)::int as value, night as event_at,
       night + interval '1 hour' as known_at
from rows
cross join generate_series(date_trunc('day', cast(:since as timestamptz)) + interval '2 hours',
                           cast(:as_of as timestamptz) - interval '1 hour', '1 day') night
where number <= 200000
