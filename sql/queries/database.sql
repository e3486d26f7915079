-- name: record_event
-- Append one line to the audit trail.
insert into nightshift.events (happened_at, code, family, as_of, detail)
values (:happened_at, :code, :family, :as_of, cast(:detail as jsonb));
