-- How much of the truth was there when a challenger was judged, and what a first version must beat.

alter table nightshift.comparisons add column guess double precision;
comment on column nightshift.comparisons.guess is 'What the best constant of the rows learnt from is worth on the holdout, which a first version must beat; gains are over it then';
alter table nightshift.comparisons add column coverage double precision;
comment on column nightshift.comparisons.coverage is 'The share of the holdout''s rows that have labels, 0 to 1; null where it was not told yet';
alter table nightshift.comparisons add column learnt_coverage double precision;
comment on column nightshift.comparisons.learnt_coverage is 'The same of the rows that the challenger has learnt from';
