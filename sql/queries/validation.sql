-- name: store
-- Store a verdict with its checks.
insert into nightshift.validations (snapshot_id, rules_hash, verdict, checks, validated_at)
values (:snapshot_id, :rules_hash, :verdict, cast(:checks as jsonb), :validated_at)
returning validation_id;

-- name: latest
-- The latest verdict on a snapshot, and by which rules.
select validation_id, rules_hash, verdict from nightshift.latest_validation(:snapshot_id);
