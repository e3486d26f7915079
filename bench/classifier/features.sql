-- Every night has the same rows under other names.
select to_char(cast(:as_of as timestamptz), 'YYYYMMDD') || '-' || number as entity_id, a, b, c, d, e, f, g,
       kind, place, shift, vendor
from rows
