-- Whether labels come as they usually do: told of each night once, when it has just matured.

alter table nightshift.measurements add column matured_predictions bigint;
alter table nightshift.measurements add column matured_labels bigint;
comment on column nightshift.measurements.matured_predictions is 'Of the predictions, those of nights that matured since the monitoring before; null where it was not told yet';
comment on column nightshift.measurements.matured_labels is 'How many of these had a known label; null where it was not told yet';
