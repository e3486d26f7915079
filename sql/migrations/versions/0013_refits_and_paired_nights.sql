-- What decides: paired nights, of which evidence is made, and what a decision has trained besides its challenger.

alter table nightshift.versions add column made_as text not null default 'challenger'
    check (made_as in ('challenger', 'since_break', 'refit'));
alter table nightshift.versions drop constraint versions_decision_id_key;
alter table nightshift.versions add unique (decision_id, made_as);
comment on column nightshift.versions.made_as is 'challenger, learnt from retrain.training.window; since_break, from the nights since a break; refit, what serves after the proof, the holdout learnt along';
comment on table nightshift.versions is 'Trained artifacts: joblib files in the store, named by content hash and signed.';

alter table nightshift.comparisons add column gains jsonb not null default '[]';
comment on column nightshift.comparisons.gains is 'Challenger minus champion by night, oldest first: as_of and gain; nights without the metric are left out';
alter table nightshift.comparisons add column holdout_rows bigint;
comment on column nightshift.comparisons.holdout_rows is 'Labelled rows of the holdout, those that the champion has learnt among them; null where it was not told yet';

alter table nightshift.shadows add column carried jsonb not null default '[]';
comment on column nightshift.shadows.carried is 'The gains by night that it takes along as evidence; none where it was proven, and must prove itself again';
