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
insert into nightshift.decisions (model_id, kind, rule, reason, as_of, inputs, subject, decided_at)
values (:model_id, :kind, :rule, :reason, :as_of, cast(:inputs as jsonb), :subject, :decided_at)
on conflict (model_id, subject) do nothing;

-- name: find_decision
-- The decision about a subject.
select decision_id, kind from nightshift.decisions where model_id = :model_id and subject = :subject;

-- name: get_decision
-- One decision by its id.
select decision_id, model_id, kind, rule, reason, as_of, inputs
from nightshift.decisions
where decision_id = :decision_id;

-- name: last_retrain
-- When a model was last told to retrain before a moment.
select max(as_of) as as_of
from nightshift.decisions
where model_id = :model_id and kind = 'retrain' and as_of < :before;

-- name: append_version
-- Register a signed artifact under the next number of its model.
insert into nightshift.versions
    (model_id, number, artifact_hash, signature, manifest, decision_id, trained_at)
select :model_id, coalesce(max(number), 0) + 1, :artifact_hash, :signature, cast(:manifest as jsonb),
       :decision_id, :trained_at
from nightshift.versions
where model_id = :model_id
returning version_id;

-- name: get_version
-- One version by its id, with its model.
select v.version_id, v.model_id, m.family, m.name, v.number, v.artifact_hash, v.signature, v.manifest,
       v.decision_id, v.trained_at
from nightshift.versions v
join nightshift.models m using (model_id)
where v.version_id = :version_id;

-- name: version_of_decision
-- The version that a decision has trained.
select v.version_id, v.model_id, m.family, m.name, v.number, v.artifact_hash, v.signature, v.manifest,
       v.decision_id, v.trained_at
from nightshift.versions v
join nightshift.models m using (model_id)
where v.decision_id = :decision_id;

-- name: champion
-- The version of a model that served at a moment.
select v.version_id, v.model_id, m.family, m.name, v.number, v.artifact_hash, v.signature, v.manifest,
       v.decision_id, v.trained_at
from nightshift.promotions p
join nightshift.versions v using (version_id)
join nightshift.models m on m.model_id = p.model_id
where m.family = :family and m.name = :name and p.effective_from <= :as_of
order by p.seq desc
limit 1;

-- name: first_promotion
-- From when a family has had a champion.
select min(p.effective_from) as effective_from
from nightshift.promotions p
join nightshift.models m using (model_id)
where m.family = :family;

-- name: latest_promotion
-- Who serves now, and under which sequence number.
select seq, version_id
from nightshift.promotions
where model_id = :model_id
order by seq desc
limit 1;

-- name: append_promotion
-- Take the next sequence number; a racer that took it first keeps it.
insert into nightshift.promotions (model_id, seq, version_id, decision_id, effective_from, promoted_at)
values (:model_id, :seq, :version_id, :decision_id, :effective_from, :promoted_at)
on conflict (model_id, seq) do nothing;
