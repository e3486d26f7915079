-- What is predicted for one entity, and how a whole night is read.
--   psql -v family=air_time -v entity=20261121-AA-1-JFK -f examples/latest.sql postgresql://nightshift_reader@host/nightshift

select family, model, as_of, score, label, flags, model_version
from predictions_latest
where entity_id = :'entity';

select count(*) as predictions, min(score), avg(score), max(score)
from predictions
where family = :'family'
  and as_of = (select max(as_of) from nights where family = :'family' and not retired);
