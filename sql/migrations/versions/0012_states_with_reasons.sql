-- Why a metric has no value, or what a single row has done to it.

alter table nightshift.measurements add column remark text;
comment on column nightshift.measurements.remark is 'Why the metric is undefined on these rows, or that a single row makes up most of its value; null where there is nothing to say';
