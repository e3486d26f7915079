-- A retrain that fails ends as such: its own decision says why, and the next night may ask again.

alter table nightshift.decisions
    drop constraint decisions_kind_check,
    add constraint decisions_kind_check check (kind in
        ('keep', 'alert', 'wait', 'ask', 'held', 'defer', 'retrain', 'promote', 'reject', 'shadow', 'rollback', 'failed'));
comment on column public.decisions.kind is
    'keep, alert, wait (its group cannot be decided yet), ask (a person is asked), held (the family is), defer, retrain, promote, reject, shadow, rollback, or failed: a retrain that came to nothing';

alter table nightshift.decisions
    drop constraint decisions_about_check,
    add constraint decisions_about_check check (about in
        ('monitor', 'request', 'rollback', 'version', 'comparison', 'shadow', 'probation', 'approval', 'training', 'other')),
    drop constraint decisions_about_id_check,
    add constraint decisions_about_id_check check (
        (about_id is not null) = (about in ('version', 'comparison', 'shadow', 'probation', 'approval', 'training')));
comment on column nightshift.decisions.about is 'What was decided about: a measuring, a request or a rollback that somebody asked for, a version by hand, a comparison, a shadow, a probation, an approval, a training.';
comment on column nightshift.decisions.about_id is 'Which one: version_id, comparison_id, shadow_id, approval_id; of a probation the seq of the model''s promotion; of a training the decision_id that asked for it.';

create or replace view public.contract as
select '2.1' as version;
