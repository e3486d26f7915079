"""Pure rules: measurements to decisions, a comparison to a verdict. No database, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from nightshift.config import Promotion, Retrain
from nightshift.records import Comparison, Decision, DecisionKind, Measurement


def decide(
    rule: Retrain,
    measurements: Sequence[Measurement],
    last_retrain: datetime | None,
) -> Decision:
    """What the measurements of one model call for.

    Parameters
    ----------
    rule
        The family's ``retrain`` section.
    measurements
        Of one model, latest first, at least one; those before the latest may be fewer than the
        rule looks at.
    last_retrain
        When this model was last told to retrain, whatever came of it; None if never.

    Returns
    -------
    Decision
        ``keep`` where the latest measurement is no breach or says nothing, ``retrain`` where the
        rule is fulfilled, ``alert`` where there is a breach and the rule does not retrain.
    """
    latest = measurements[0]
    if latest.state != "breached":
        return _decision(latest, "keep", latest.state, describe(latest))
    if rule.when is None:
        reason = f"{describe(latest)}; this family only alerts (retrain.when is null)"
        return _decision(latest, "alert", "no_retrain_rule", reason)
    considered = measurements[: rule.when.of_last]
    breaches = sum(m.state == "breached" for m in considered)
    counted = f"{breaches} of the last {rule.when.of_last} measurements are breaches"
    inputs = {"breaches": breaches, "measurements": [m.as_of for m in considered]}
    if breaches < rule.when.breaches:
        reason = f"{describe(latest)}; {counted}, and {rule.when.breaches} are needed"
        return _decision(latest, "alert", "too_few_breaches", reason, **inputs)
    if last_retrain is not None and latest.as_of - last_retrain < rule.cooldown:
        until = last_retrain + rule.cooldown
        reason = (
            f"{describe(latest)}; {counted}, but the cooldown lasts until {until:%Y-%m-%d %H:%M}Z"
        )
        return _decision(latest, "alert", "cooldown", reason, **inputs)
    return _decision(latest, "retrain", "breaches", f"{describe(latest)}; {counted}", **inputs)


def judge(comparison: Comparison, promotion: Promotion, as_of: datetime, model_id: int) -> Decision:
    """Whether a challenger replaces the champion: only on proof, never on a draw."""
    kind, rule, reason = _verdict(comparison, promotion)
    inputs = {
        "challenger_version": comparison.challenger_version,
        "champion_version": comparison.champion_version,
        "rows": comparison.row_count,
        "difference": comparison.difference,
        "low": comparison.low,
    }
    return Decision(model_id, kind, rule, reason, as_of, inputs)


def describe(measurement: Measurement) -> str:
    """A measurement in one sentence with its figures."""
    window = f"{measurement.window_start:%Y-%m-%d} to {measurement.window_end:%Y-%m-%d}"
    counts = f"{measurement.labels} of {measurement.predictions}"
    share = f"{counts} labels known ({measurement.coverage:.0%})"
    if measurement.state == "immature":
        return f"{measurement.metric} over {window} cannot be judged yet: {share}"
    if measurement.value is None or measurement.low is None or measurement.high is None:
        return f"{measurement.metric} over {window} is undefined on these labels: {share}"
    side = "below" if measurement.state == "breached" else "not below"
    return (
        f"{measurement.metric} over {window} is {measurement.value:.4g}"
        f" ({measurement.low:.4g} to {measurement.high:.4g}),"
        f" {side} the threshold {measurement.threshold:.4g}; {share}"
    )


def _verdict(comparison: Comparison, promotion: Promotion) -> tuple[DecisionKind, str, str]:
    if comparison.champion_version is None:
        return "promote", "unopposed", "the first version of this model has nobody to beat"
    if comparison.row_count < promotion.min_rows:
        found = f"the holdout has {comparison.row_count} labelled rows"
        return "reject", "too_few_rows", f"{found}, and {promotion.min_rows} are needed for proof"
    if comparison.difference is None or comparison.low is None:
        return "reject", "undefined", f"{comparison.metric} is undefined on the holdout"
    figures = (
        f"on {comparison.row_count} later rows the challenger's {comparison.metric} is"
        f" {comparison.challenger_value:.4g} against {comparison.champion_value:.4g}:"
        f" better by {comparison.difference:.3g}, at least {comparison.low:.3g}"
        f" with {promotion.confidence:.0%} confidence"
    )
    if comparison.low > promotion.margin:
        return "promote", "proof", f"{figures}, above the margin {promotion.margin:g}"
    return "reject", "no_proof", f"{figures}, not above the margin {promotion.margin:g}"


def _decision(
    latest: Measurement, kind: DecisionKind, rule: str, reason: str, **inputs: object
) -> Decision:
    figures = {"state": latest.state, "value": latest.value, "low": latest.low, "high": latest.high}
    return Decision(latest.model_id, kind, rule, reason, latest.as_of, {**figures, **inputs})
