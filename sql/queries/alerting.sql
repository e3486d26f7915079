-- name: raise
-- Store an alert; the first one about a subject stays.
insert into nightshift.alerts (family, cause, subject, title, message, as_of, raised_at)
values (:family, :cause, :subject, :title, :message, :as_of, :raised_at)
on conflict (family, cause, subject) do nothing;

-- name: find
-- The alert of a cause about a subject.
select alert_id from nightshift.alerts where family = :family and cause = :cause and subject = :subject;

-- name: recent
-- These alerts, and those of a family raised in (since, until], with the notifiers that have delivered them.
select a.alert_id, a.family, a.cause, a.title, a.message, a.as_of,
       array(select d.notifier from nightshift.alert_deliveries d
             where d.alert_id = a.alert_id order by d.notifier) as delivered_by
from nightshift.alerts a
where a.alert_id = any(cast(:alert_ids as int[]))
   or (a.family = :family and a.raised_at > cast(:since as timestamptz)
       and a.raised_at <= cast(:until as timestamptz))
order by a.alert_id;

-- name: deliver
-- A notifier has delivered an alert.
insert into nightshift.alert_deliveries (alert_id, notifier, delivered_at)
values (:alert_id, :notifier, :delivered_at)
on conflict (alert_id, notifier) do nothing;

-- name: monitor_decisions
-- What one monitoring has decided about each model of a family.
select m.name as model, d.kind, d.rule, d.reason, d.inputs, d.severity, d.alarming, d.falling_since
from nightshift.decisions d
join nightshift.models m using (model_id)
where m.family = :family and d.as_of = cast(:as_of as timestamptz) and d.about = 'monitor'
order by m.name;

-- name: retrain_outcomes
-- What has become of decisions to retrain: the version that came off best, and the verdict on it, by a person where one was asked.
select d.decision_id, m.name as model, d.as_of, d.about, d.rule, d.reason, v.number,
       c.champion_value, c.challenger_value, a.approval_id, w.answer,
       coalesce(answered.kind, verdict.kind) as verdict, coalesce(answered.reason, verdict.reason) as verdict_reason
from nightshift.decisions d
join nightshift.models m using (model_id)
left join nightshift.comparisons c on c.decision_id = d.decision_id
left join nightshift.versions v on v.version_id = c.challenger_version
left join nightshift.decisions verdict
       on verdict.about = 'comparison' and verdict.about_id = c.comparison_id
left join nightshift.approvals a on a.comparison_id = c.comparison_id
left join nightshift.answers w using (approval_id)
left join nightshift.decisions answered on answered.decision_id = w.decision_id
where d.decision_id = any(cast(:decision_ids as int[]))
order by m.name;

-- name: decisions
-- What some decisions say.
select m.name as model, d.kind, d.reason, d.as_of
from nightshift.decisions d
join nightshift.models m using (model_id)
where d.decision_id = any(cast(:decision_ids as int[]))
order by m.name;

-- name: alert_signals
-- The signals at alert in the published batch of a night, the strongest first.
select m.name as model, s.signal, s.feature, s.value
from nightshift.published p
join nightshift.signals s using (batch_id)
join nightshift.models m using (model_id)
where p.family = :family and p.as_of = :as_of and s.level = 'alert'
order by s.value desc, m.name, s.signal, s.feature;

-- name: watched_models
-- How many models were watched in the published batch of a night.
select count(distinct s.model_id) as models
from nightshift.published p
join nightshift.signals s using (batch_id)
where p.family = :family and p.as_of = :as_of;

-- name: rejection
-- Why the snapshot of a night was rejected, unless the night has been published since.
select e.detail ->> 'reason' as reason
from nightshift.events e
where e.family = :family and e.as_of = :as_of and e.code = 'snapshot_rejected'
  and not exists (
      select from nightshift.published p
      where p.family = e.family and p.as_of = e.as_of and p.published_at >= e.happened_at)
order by e.event_id desc
limit 1;

-- name: refusals
-- What steps of a family refused since a moment, about some as_of, the latest first.
select e.detail ->> 'reason' as reason
from nightshift.events e
where e.family = :family and e.as_of = any(cast(:moments as timestamptz[]))
  and e.happened_at >= cast(:since as timestamptz)
  and e.code not in ('snapshot_rejected', 'shadow_failed', 'probation_failed', 'model_failed') and e.detail ->> 'reason' is not null
order by e.event_id desc;

-- name: failed_models
-- The models whose versions failed in the published batch of a night, with what was said.
select e.detail ->> 'model' as model, e.detail ->> 'reason' as reason
from nightshift.published p
join nightshift.events e on e.family = p.family and e.as_of = p.as_of and e.code = 'model_failed'
                        and e.detail ->> 'batch_id' = p.batch_id::text
where p.family = :family and p.as_of = :as_of
order by e.event_id;

-- name: first_night
-- The first night that a family has published; null before.
select min(as_of) as as_of from nightshift.published where family = :family;

-- name: nights
-- The nights that a family has published after a moment.
select as_of from nightshift.published where family = :family and as_of > cast(:since as timestamptz);

-- name: left_out
-- The rows that were left out of a published night, by reason.
select s.row_count, s.left_out
from nightshift.published p
join nightshift.batches b using (batch_id)
join nightshift.snapshots s using (snapshot_id)
where p.family = :family and p.as_of = :as_of and s.left_out <> '{}';
