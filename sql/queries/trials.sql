-- name: begin_shadow
-- A challenger scores beside the champion from now on.
insert into nightshift.shadows
    (model_id, version_id, instead_of, decision_id, reference, starts, ends)
values
    (:model_id, :version_id, :instead_of, :decision_id, cast(:reference as jsonb), :starts, :ends)
on conflict (decision_id) do nothing;

-- name: ask
-- Keep what a person is asked to approve; the first evidence of a comparison stays.
insert into nightshift.approvals (comparison_id, evidence, evidence_hash, asked_at)
values (:comparison_id, :evidence, :evidence_hash, :asked_at)
on conflict (comparison_id) do nothing;
