-- name: ensure_model
-- Make a model at its first mention.
insert into nightshift.models (family, name, created_at)
values (:family, :name, :created_at)
on conflict (family, name) do nothing;

-- name: find_model
-- One model by its name.
select model_id, family, name from nightshift.models where family = :family and name = :name;

-- name: get_model
-- One model by its id.
select model_id, family, name from nightshift.models where model_id = :model_id;

-- name: append_decision
-- Append a decision, unless this subject was decided already.
insert into nightshift.decisions
    (model_id, kind, rule, reason, as_of, inputs, severity, alarming, falling_since, about, about_id, subject, decided_at)
values
    (:model_id, :kind, :rule, :reason, :as_of, cast(:inputs as jsonb), :severity, :alarming, :falling_since,
     :about, :about_id, :subject, :decided_at)
on conflict (model_id, subject) do nothing;

-- name: append_decisions
-- Append decisions about one subject, an array of objects, in order; what was decided already stays.
insert into nightshift.decisions
    (model_id, kind, rule, reason, as_of, inputs, severity, alarming, falling_since, about, about_id, subject, decided_at)
select d.model_id, d.kind, d.rule, d.reason, d.as_of, d.inputs, d.severity, d.alarming, d.falling_since,
       :about, cast(:about_id as bigint), :subject, cast(:decided_at as timestamptz)
from rows from (
    jsonb_to_recordset(cast(:decisions as jsonb))
        as (model_id int, kind text, rule text, reason text, as_of timestamptz, inputs jsonb,
            severity double precision, alarming boolean, falling_since timestamptz)
) with ordinality d
    (model_id, kind, rule, reason, as_of, inputs, severity, alarming, falling_since, place)
order by d.place
on conflict (model_id, subject) do nothing;

-- name: decided_models
-- Which of some models something was decided about already.
select model_id
from nightshift.decisions
where model_id = any(cast(:model_ids as int[])) and subject = :subject;

-- name: find_decision
-- The decision about a subject.
select decision_id, kind from nightshift.decisions where model_id = :model_id and subject = :subject;

-- name: get_decision
-- One decision by its id.
select decision_id, model_id, kind, rule, reason, as_of, inputs, severity, alarming, falling_since
from nightshift.decisions
where decision_id = :decision_id;

-- name: last_retrains
-- When each model of a family was last told to retrain before a moment, those that failed aside.
select m.model_id, d.as_of
from nightshift.models m
cross join lateral (
    select r.as_of from nightshift.decisions r
    where r.model_id = m.model_id and r.kind = 'retrain' and r.as_of < :before
      and not exists (
          select from nightshift.decisions f
          where f.model_id = r.model_id and f.about = 'training' and f.about_id = r.decision_id
            and not exists (
                select from nightshift.comparisons c
                join nightshift.decisions e on e.about = 'comparison' and e.about_id = c.comparison_id
                where c.decision_id = r.decision_id))
    order by r.as_of desc
    limit 1
) d
where m.family = :family;

-- name: unended
-- Decisions to retrain that came to no end, since nothing was concluded and no failure told: of a list, or (null) all that were made in (since, before].
select d.decision_id, m.family, m.name as model, d.as_of, d.decided_at,
       exists (select from nightshift.comparisons c where c.decision_id = d.decision_id) as compared,
       exists (select from nightshift.versions v where v.decision_id = d.decision_id) as trained
from nightshift.decisions d
join nightshift.models m using (model_id)
where d.kind = 'retrain'
  and (cast(:decision_ids as int[]) is null or d.decision_id = any(cast(:decision_ids as int[])))
  and (cast(:since as timestamptz) is null or d.decided_at > cast(:since as timestamptz))
  and (cast(:before as timestamptz) is null or d.decided_at <= cast(:before as timestamptz))
  and not exists (
      select from nightshift.decisions f
      where f.model_id = d.model_id and f.about = 'training' and f.about_id = d.decision_id)
  and not exists (
      select from nightshift.comparisons c
      join nightshift.decisions e on e.about = 'comparison' and e.about_id = c.comparison_id
      where c.decision_id = d.decision_id)
order by d.decision_id;

-- name: families
-- Every family that has, or has had, a model or a night.
select family from nightshift.models
union
select family from nightshift.snapshots
order by family;

-- name: retrains_called_for
-- How many retrains rules and calendars have called for in (since, until], over all families; null: until ever.
select count(*) as retrains
from nightshift.decisions
where kind = 'retrain' and rule <> 'on_demand'
  and as_of > cast(:since as timestamptz) and as_of <= coalesce(cast(:until as timestamptz), 'infinity');

-- name: lock_budget
-- One family at a time takes from the budget of the night.
select pg_advisory_xact_lock(hashtext('nightshift.budget'));

-- name: retrains_of
-- What one monitoring of a family has told its models to retrain.
select d.decision_id
from nightshift.decisions d
join nightshift.models m using (model_id)
where m.family = :family and d.subject = :subject and d.kind = 'retrain'
order by d.decision_id;

-- name: trial_ends
-- What became of challengers in shadow and of champions on probation at a moment: of a family, or of one of its models.
select d.decision_id, m.name as model, d.kind, d.reason, d.as_of
from nightshift.decisions d
join nightshift.models m using (model_id)
where m.family = :family and (cast(:model_id as int) is null or d.model_id = :model_id)
  and d.as_of = cast(:as_of as timestamptz) and d.about in ('shadow', 'probation')
order by m.name, d.decision_id;

-- name: lock_versions
-- One process at a time gives a version of a model its number.
select pg_advisory_xact_lock(hashtext('nightshift.versions'), cast(:model_id as int));

-- name: append_version
-- Register a signed artifact under the next number of its model.
insert into nightshift.versions
    (model_id, number, artifact_hash, signature, manifest, decision_id, made_as, trained_at)
select :model_id, coalesce(max(number), 0) + 1, :artifact_hash, :signature, cast(:manifest as jsonb),
       :decision_id, :made_as, :trained_at
from nightshift.versions
where model_id = :model_id
returning version_id;

-- name: get_versions
-- Versions by their ids, with their models.
select v.version_id, v.model_id, v.family, v.name, v.number, v.artifact_hash, v.signature, v.manifest,
       v.decision_id, v.trained_at, v.collected_at
from nightshift.version_records v
where v.version_id = any(cast(:version_ids as int[]));

-- name: version_of_decision
-- What a decision has trained, as one of the things that it trains.
select v.version_id, v.model_id, v.family, v.name, v.number, v.artifact_hash, v.signature, v.manifest,
       v.decision_id, v.trained_at, v.collected_at
from nightshift.version_records v
where v.decision_id = :decision_id and v.made_as = :made_as;

-- name: failures
-- How many challengers of each model of a family in a row did not serve; those are left out that had not learnt from any night since the fall, or, where that is not told, since the first retrain it has led to.
with latest as (
    select m.model_id, coalesce(max(p.promoted_at), '-infinity') as promoted_at
    from nightshift.models m
    left join nightshift.promotions p using (model_id)
    where m.family = :family
    group by m.model_id
),
first as (
    select d.model_id, min(d.as_of) as as_of
    from nightshift.decisions d
    join latest using (model_id)
    where d.kind = 'retrain' and d.decided_at > latest.promoted_at
    group by d.model_id
)
select m.model_id, count(*) as failures
from latest m
join first on first.model_id = m.model_id
join nightshift.decisions r on r.model_id = m.model_id and r.kind = 'reject' and r.about in ('comparison', 'shadow')
left join nightshift.shadows s on r.about = 'shadow' and s.shadow_id = r.about_id
join nightshift.comparisons c
  on c.comparison_id = case when r.about = 'shadow' then s.comparison_id else r.about_id end
join nightshift.decisions o on o.decision_id = c.decision_id
join nightshift.versions v on v.version_id = c.challenger_version
where r.as_of < cast(:before as timestamptz) and r.decided_at > m.promoted_at
  and cast(v.manifest -> 'training' ->> 1 as timestamptz) >= coalesce(o.falling_since, first.as_of)
group by m.model_id;

-- name: champion
-- The version of a model that served at a moment.
select v.version_id, v.model_id, v.family, v.name, v.number, v.artifact_hash, v.signature, v.manifest,
       v.decision_id, v.trained_at, v.collected_at
from nightshift.promotion_at(:model_id, cast(:as_of as timestamptz)) p
join nightshift.version_records v using (version_id);

-- name: champions
-- The versions that served at a moment, one for each model of a family that had one.
select v.version_id, v.model_id, v.family, v.name, v.number, v.artifact_hash, v.signature, v.manifest,
       v.decision_id, v.trained_at, v.collected_at, p.effective_from, p.reference
from nightshift.models m
join lateral nightshift.promotion_at(m.model_id, cast(:as_of as timestamptz)) p on true
join nightshift.version_records v on v.version_id = p.version_id
where m.family = :family;

-- name: members
-- Every model of a family that was ever a member by a moment, with its state and group then.
select m.model_id, m.name, n.state, n.group_name
from nightshift.models m
join lateral nightshift.membership_at(m.model_id, cast(:as_of as timestamptz)) n on true
where m.family = :family
order by m.name;

-- name: append_membership
-- From a moment on a model is active or retired, in this group.
insert into nightshift.memberships (model_id, as_of, state, group_name)
values (:model_id, :as_of, :state, :group_name)
on conflict (model_id, as_of) do nothing;

-- name: absent_members
-- Active members of a family that have had no row in any published batch since a moment.
with recent as materialized (
    select batch_id from nightshift.published
    where family = :family and as_of > cast(:since as timestamptz) and as_of <= cast(:as_of as timestamptz)
)
select m.model_id, m.name, n.group_name
from nightshift.models m
join lateral nightshift.membership_at(m.model_id, cast(:as_of as timestamptz)) n on true
where m.family = :family
  and m.name is distinct from cast(:whole as text)
  and n.state = 'active'
  and n.as_of <= cast(:since as timestamptz)
  and exists (select from recent)
  and not exists (
      select from recent
      join nightshift.batch_models b using (batch_id)
      where b.model_id = m.model_id
      offset 0);

-- name: first_promotion
-- From when a family has had a champion.
select min(p.effective_from) as effective_from
from nightshift.promotions p
join nightshift.models m using (model_id)
where m.family = :family;

-- name: first_question
-- The oldest question about a version of a family that nobody has answered.
select min(a.approval_id) as approval_id
from nightshift.open_approvals() a
join nightshift.comparisons c using (comparison_id)
join nightshift.versions v on v.version_id = c.challenger_version
join nightshift.models m using (model_id)
where m.family = :family;

-- name: latest_promotion
-- Who serves now, and under which sequence number.
select seq, version_id from nightshift.promotion_at(:model_id, 'infinity');

-- name: append_promotion
-- Take the next sequence number; a racer that took it first keeps it.
insert into nightshift.promotions
    (model_id, seq, version_id, decision_id, effective_from, promoted_at, reference)
values
    (:model_id, :seq, :version_id, :decision_id, :effective_from, :promoted_at, cast(:reference as jsonb))
on conflict (model_id, seq) do nothing;

-- name: earlier_champions
-- Versions of a model that were champions once, the latest first.
select v.version_id, v.model_id, v.family, v.name, v.number, v.artifact_hash, v.signature, v.manifest,
       v.decision_id, v.trained_at, v.collected_at
from (
    select version_id, max(seq) as seq from nightshift.promotions where model_id = :model_id group by version_id
) once
join nightshift.version_records v using (version_id)
where v.collected_at is null
order by once.seq desc
limit :count;

-- name: promotions
-- Every promotion of a model, oldest first.
select p.seq, p.version_id, v.number, d.kind, p.effective_from, p.promoted_at, p.reference
from nightshift.promotions p
join nightshift.versions v using (version_id)
join nightshift.decisions d on d.decision_id = p.decision_id
where p.model_id = :model_id
order by p.seq;

-- name: lock_artifacts
-- While artifacts are collected, nobody takes one into use; whoever does (shared) keeps the collection waiting.
select case when cast(:shared as boolean)
            then pg_advisory_xact_lock_shared(hashtext('nightshift.artifacts'))
            else pg_advisory_xact_lock(hashtext('nightshift.artifacts')) end;

-- name: artifacts
-- Every version: which artifact it is, how many champions of its model came later, when it was last of use, and whether it still is.
select v.artifact_hash, m.family, later.champions as later_champions,
       greatest(v.trained_at,
           (select max(c.compared_at) from nightshift.comparisons c
            where v.version_id in (c.challenger_version, c.champion_version)),
           (select max(next.promoted_at)
            from nightshift.promotions p
            join nightshift.promotions next on next.model_id = p.model_id and next.seq = p.seq + 1
            where p.version_id = v.version_id),
           (select max(d.decided_at)
            from nightshift.shadows s
            join nightshift.decisions d on d.about = 'shadow' and d.about_id = s.shadow_id
            where v.version_id in (s.version_id, s.instead_of)),
           (select max(w.answered_at)
            from nightshift.answers w
            join nightshift.approvals a using (approval_id)
            join nightshift.comparisons c using (comparison_id)
            where c.challenger_version = v.version_id)) as last_used,
       exists (
           select from nightshift.open_shadows() s
           where v.version_id in (s.version_id, s.instead_of))
       or exists (
           select from nightshift.open_approvals() a
           join nightshift.comparisons c using (comparison_id)
           where c.challenger_version = v.version_id) as wanted
from nightshift.versions v
join nightshift.models m using (model_id)
left join lateral (
    -- Null for a version that never served; 0 for the one that serves.
    select case when max(own.seq) is not null then (
               select count(distinct p.version_id) from nightshift.promotions p
               where p.model_id = v.model_id and p.version_id <> v.version_id and p.seq > max(own.seq)) end as champions
    from nightshift.promotions own
    where own.version_id = v.version_id
) later on true;

-- name: collect
-- Remember that the files of artifacts are deleted.
insert into nightshift.collected_artifacts (artifact_hash, collected_at)
select unnest(cast(:artifacts as text[])), cast(:collected_at as timestamptz)
on conflict (artifact_hash) do nothing;
