-- name: store
-- Store a verdict with its checks.
insert into nightshift.validations (snapshot_id, verdict, checks, validated_at)
values (:snapshot_id, :verdict, cast(:checks as jsonb), :validated_at)
returning validation_id;
