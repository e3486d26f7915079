-- A retrain that fails ends as such: its own decision says why, and the next night may ask again.

alter table nightshift.decisions
    drop constraint decisions_kind_check,
    add constraint decisions_kind_check check (kind in
        ('keep', 'alert', 'hold', 'defer', 'retrain', 'promote', 'reject', 'shadow', 'rollback', 'failed'));
comment on column public.decisions.kind is
    'keep, alert, hold, defer, retrain, promote, reject, shadow, rollback, or failed: a retrain that came to nothing';

create or replace view public.contract as
select '1.1' as version;
