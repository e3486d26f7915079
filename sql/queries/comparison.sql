-- name: append
-- Store a comparison; the first one of a decision to retrain stays.
insert into nightshift.comparisons
    (decision_id, challenger_version, champion_version, metric, holdout_start, holdout_end, row_count,
     champion_value, challenger_value, difference, low, confidence, candidates, slices, border_cases,
     champion_reference, unscorable, perfect, baseline, reference, gains, holdout_rows,
     guess, coverage, learnt_coverage, compared_at)
values
    (:decision_id, :challenger_version, :champion_version, :metric, :holdout_start, :holdout_end,
     :row_count, :champion_value, :challenger_value, :difference, :low, :confidence,
     cast(:candidates as jsonb), cast(:slices as jsonb), cast(:border_cases as jsonb),
     :champion_reference, :unscorable, :perfect, :baseline, cast(:reference as jsonb),
     cast(:gains as jsonb), :holdout_rows, :guess, :coverage, :learnt_coverage, :compared_at)
on conflict (decision_id) do nothing;

-- name: find
-- The comparison that a decision to retrain asked for.
select comparison_id from nightshift.comparisons where decision_id = :decision_id;

-- name: get
-- One comparison by its id.
select decision_id, challenger_version, champion_version, metric, holdout_start, holdout_end, row_count,
       champion_value, challenger_value, difference, low, confidence, candidates, slices, border_cases,
       champion_reference, unscorable, perfect, baseline, reference, gains, holdout_rows,
       guess, coverage, learnt_coverage
from nightshift.comparisons
where comparison_id = :comparison_id;
