"""Champion and candidates on the same later rows: who is better, by how much, and for whom.

Candidates are the version just trained and earlier champions, which cost no fit. Their bounds share
the family's confidence, so that trying more of them does not make a lucky one likelier; the larger
part of it is that of the version just trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa

from nightshift import stats, tables
from nightshift.artifacts import LoadedVersion, Predictions
from nightshift.data import Transaction, as_json
from nightshift.documents import Worth
from nightshift.errors import ConfigError, RegistryError, ScoringError, TrainingError, words_of
from nightshift.family import ModelFamily, Problem
from nightshift.records import (
    BorderCases,
    Candidate,
    Comparison,
    NightGain,
    SliceDifference,
    Version,
)
from nightshift.registry import Registry
from nightshift.training import Rows
from nightshift.wording import listed

BORDER_CASES = "border_cases.csv"
EARLIER = 3
"""How many earlier champions are candidates."""

TRAINED_SHARE = 0.8
"""Of the doubt that the confidence leaves: the earlier champions share the rest, so that trying
them costs what was just trained little of its power."""

LEAST_SLICE = 20
"""With fewer rows a slice says nothing."""


class Scorer(Protocol):
    """A version that can be asked about rows."""

    @property
    def version(self) -> Version: ...
    def predict(self, table: pa.Table) -> Predictions: ...


@dataclass(frozen=True)
class _Told:
    """What one version says about the rows: ``as_of``, ``value``, ``score``, ``label``."""

    model: Scorer
    rows: pd.DataFrame
    value: float | None
    missing: str

    @property
    def version_id(self) -> int:
        return self.model.version.version_id


@dataclass(frozen=True)
class Unopened:
    """A version that can score nothing, and why: whatever can is better."""

    version: Version
    reason: str


def opened(family: ModelFamily, versions: Registry, version: Version) -> LoadedVersion | Unopened:
    """A version that may be compared, or why it can score none of the family's rows."""
    gone = version.manifest.columns.difference(family.features.names)
    if gone:
        needs = f"{version} needs {listed(sorted(gone))}, which features.sql does not give any more"
        return Unopened(version, needs)
    try:
        return versions.load(version)
    except RegistryError as error:
        return Unopened(version, str(error))


def compare(
    family: ModelFamily,
    rows: Rows,
    challenger: Scorer,
    champion: Scorer | Unopened | None,
    earlier: Sequence[Scorer] = (),
    *,
    worth: float | None = None,
    candidates: int = 1,
) -> Comparison:
    """Champion and candidates on the holdout that the challenger's manifest names.

    Parameters
    ----------
    rows
        Those of the family in the holdout, with labels known by the challenger's cutoff. Rows that
        any of the versions was trained on are left out.
    champion
        None where nobody serves yet, :class:`Unopened` where whoever does cannot be opened.
    earlier
        Champions of the past; those that cannot score the rows are passed over.
    worth
        The most that a champion of the model was ever worth in the family's metric.
    candidates
        How many challengers the retrain has trained, which share the confidence.
    """
    start, end = challenger.version.manifest.holdout
    # What one that can score nothing has learnt is no advantage.
    scorers = [*earlier]
    if champion is not None and not isinstance(champion, Unopened):
        scorers.append(champion)
    start = max([start, *(_learnt_until(version) for version in scorers)])
    own = rows.of(family, challenger.version.model).after(start)
    metric = family.performance.metric
    empty = Comparison(
        decision_id=challenger.version.decision_id,
        champion_version=champion.version.version_id if champion else None,
        challenger_version=challenger.version.version_id,
        metric=metric,
        holdout_start=start,
        holdout_end=end,
        row_count=len(own),
        champion_value=None,
        challenger_value=None,
        difference=None,
        low=None,
        champion_reference=worth,
        unscorable=champion.reason if isinstance(champion, Unopened) else None,
        coverage=rows.coverage(start),
        learnt_coverage=challenger.version.manifest.learnt_coverage,
    )
    if not len(own):
        return empty
    trained = _told(family, own, challenger)
    truth = stats.outcomes(trained.rows, family.task)
    unopposed = replace(
        empty,
        challenger_value=trained.value,
        candidates=(_candidate(trained, "trained"),),
        perfect=stats.perfect(metric),
        baseline=stats.baseline(metric, family.task, truth),
        reference=reference(family, trained.rows),
    )
    if champion is None:
        return _beside_guess(family, unopposed, trained)
    if isinstance(champion, Unopened):
        return unopposed
    try:
        serving = _told(family, own, champion)
    except TrainingError as error:
        return replace(unopposed, unscorable=str(error))
    others = _scorable(family, own, earlier)
    doubt = (1 - family.promotion.confidence) * (TRAINED_SHARE if others else 1.0) / candidates
    trial = replace(unopposed, confidence=1 - doubt)
    return _against(family, own, trial, [serving, trained, *others])


def _beside_guess(family: ModelFamily, unopposed: Comparison, trained: _Told) -> Comparison:
    """A first version beside the best constant of the rows that it has learnt from."""
    guess = trained.model.version.manifest.guess
    if guess is None or trained.value is None:
        return unopposed
    known = stats.outcomes(trained.rows, family.task)
    same = stats.guessed(known, guess)
    return replace(
        unopposed,
        guess=stats.value(unopposed.metric, family.task, same),
        gains=tuple(_gains(family, same, known, trained.rows)),
    )


def reference(family: ModelFamily, told: pd.DataFrame) -> Worth:
    """What a version is worth on rows it was not trained on, and how its scores lie there."""
    worth = {
        metric: stats.reference(metric, family.task, told) for metric in family.performance.metrics
    }
    document: dict[str, Any] = {
        "rows": len(told),
        "metrics": {name: asdict(value) for name, value in worth.items() if value is not None},
        "scores": tables.histogram(told["score"].to_numpy()),
    }
    if family.task == "binary_classification":
        document["calibration"] = _calibration(told)
    return Worth(document)


def register(tx: Transaction, comparison: Comparison, *, now: datetime) -> int:
    """Store a comparison; comparing for a decision again returns the first one's id."""
    stored = {**asdict(comparison), "reference": comparison.reference}
    for name in ("reference", "border_cases", "candidates", "slices", "gains"):
        stored[name] = None if stored[name] is None else as_json(stored[name])
    tx.run("comparison.append", **stored, compared_at=now)
    found = registered(tx, comparison.decision_id)
    assert found is not None
    return found


def registered(tx: Transaction, decision_id: int) -> int | None:
    """The comparison that a decision to retrain has led to already; None if it has not."""
    row = tx.maybe("comparison.find", decision_id=decision_id)
    return row.comparison_id if row else None


def stored_comparison(tx: Transaction, comparison_id: int) -> Comparison:
    """The comparison of this id."""
    row = tx.one("comparison.get", comparison_id=comparison_id)
    told = {name: getattr(row, name) for name in Comparison.__dataclass_fields__}
    told["reference"] = Worth.parse(row.reference)
    told["candidates"] = tuple(Candidate(**one) for one in told["candidates"])
    told["slices"] = tuple(SliceDifference(**one) for one in told["slices"])
    told["gains"] = tuple(
        NightGain(datetime.fromisoformat(night["as_of"]), night["gain"]) for night in told["gains"]
    )
    if told["border_cases"] is not None:
        told["border_cases"] = BorderCases(**told["border_cases"])
    return Comparison(**told)


def _against(
    family: ModelFamily, rows: Rows, unopposed: Comparison, sides: Sequence[_Told]
) -> Comparison:
    """The comparison of the champion, the version just trained, and earlier champions."""
    serving, trained, *earlier = sides
    own = unopposed.confidence
    assert own is not None
    doubt = (1 - family.promotion.confidence) * (1 - TRAINED_SHARE)
    shared = 1 - doubt / max(len(earlier), 1)
    told = {one.version_id: one for one in sides[1:]}
    candidates = [
        _candidate(trained, "trained", _paired(family, serving.rows, trained.rows, own)),
        *(
            _candidate(one, "earlier", _paired(family, serving.rows, one.rows, shared))
            for one in earlier
        ),
    ]
    # An earlier champion serves again on proof only; what was just trained may do with less.
    margin = family.promotion.margin
    proven = [c for c in candidates if c.low is not None and c.low > margin]
    best = max(proven, key=lambda c: c.low or 0.0, default=candidates[0])
    winner = told[best.version_id]
    return replace(
        unopposed,
        challenger_version=best.version_id,
        confidence=own if winner is trained else shared,
        champion_value=serving.value,
        challenger_value=best.value,
        difference=best.difference,
        low=best.low,
        candidates=tuple(candidates),
        slices=tuple(_slices(family, rows, serving, winner)),
        border_cases=_border_cases(family, serving.model, winner.model),
        reference=reference(family, winner.rows),
        gains=tuple(
            _gains(
                family,
                stats.outcomes(serving.rows, family.task),
                stats.outcomes(winner.rows, family.task),
                winner.rows,
            )
        ),
    )


def _gains(
    family: ModelFamily, before: stats.Outcomes, after: stats.Outcomes, rows: pd.DataFrame
) -> Iterator[NightGain]:
    moments, differences = stats.gains(
        family.performance.metric, family.task, before, after, stats.nights_of(rows)
    )
    for moment, gain in zip(moments, differences, strict=True):
        as_of = pd.Timestamp(moment)
        as_of = as_of.tz_localize("UTC") if as_of.tz is None else as_of
        yield NightGain(as_of.to_pydatetime(), float(gain))


def _candidate(
    told: _Told, kind: Any, paired: stats.Estimate | stats.Undefined | None = None
) -> Candidate:
    version = told.model.version
    difference, low, missing = None, None, told.missing
    if isinstance(paired, stats.Estimate):
        difference, low = paired.value, paired.low
    elif paired is not None:
        missing = paired.reason
    return Candidate(
        version.version_id, version.number, kind, told.value, difference, low, missing or None
    )


def _paired(
    family: ModelFamily, before: pd.DataFrame, after: pd.DataFrame, confidence: float
) -> stats.Estimate | stats.Undefined:
    return stats.paired_difference(
        family.performance.metric,
        family.task,
        stats.outcomes(before, family.task),
        stats.outcomes(after, family.task),
        confidence=confidence,
        nights=stats.nights_of(after),
    )


def _scorable(family: ModelFamily, rows: Rows, earlier: Sequence[Scorer]) -> list[_Told]:
    found = []
    for version in earlier:
        try:
            found.append(_told(family, rows, version))
        except TrainingError:
            continue
    return found


def _slices(
    family: ModelFamily, rows: Rows, serving: _Told, winner: _Told
) -> list[SliceDifference]:
    """By each value of ``performance.slices``, at a confidence that they share."""
    parts = [
        (f"{column}={value}", part.to_numpy())
        for column in family.performance.slices
        for value, part in pd.Series(range(len(rows))).groupby(_column(rows, column), sort=True)
        if len(part) >= LEAST_SLICE
    ]
    confidence = 1 - (1 - family.promotion.confidence) / max(len(parts), 1)
    found = []
    for name, places in parts:
        before, after = serving.rows.iloc[places], winner.rows.iloc[places]
        paired = _paired(family, before, after, confidence)
        difference, high = (
            (None, None) if isinstance(paired, stats.Undefined) else (paired.value, paired.high)
        )
        found.append(SliceDifference(name, len(places), difference, high))
    return found


def _column(rows: Rows, column: str) -> np.ndarray:
    return np.asarray(rows.table[column].cast(pa.string()).to_pandas())


def _border_cases(family: ModelFamily, champion: Scorer, challenger: Scorer) -> BorderCases | None:
    """What either version is worth on the rows that somebody labelled by hand."""
    cases = border_cases(family)
    if cases is None:
        return None
    worth = [_told(family, cases, version).value for version in (champion, challenger)]
    return BorderCases(len(cases), *worth)


def border_cases(family: ModelFamily) -> Rows | None:
    """The family's ``border_cases.csv``: the features and ``label``; None where there is none.

    Raises
    ------
    ConfigError
        A column is missing, or a number is none.
    """
    file = family.folder / BORDER_CASES
    if not file.exists():
        return None
    wanted = [*family.features.names, "label"]
    frame = pd.read_csv(file, dtype=str, keep_default_na=False, na_values=[""])
    missing = [name for name in wanted if name not in frame]
    if missing or frame.empty:
        what = f"column {listed(missing)} is missing" if missing else "it has no rows"
        raise ConfigError(f"{family.family}: {file}: {what}; write {listed(wanted)}")
    try:
        table = pa.table(
            {name: frame[name].astype("float64") for name in family.features.numeric}
            | {name: pa.array(frame[name], pa.string()) for name in family.features.categorical}
        )
    except ValueError as error:
        told = words_of(error, discreet=family.discreet)
        raise ConfigError(f"{family.family}: {file}: {told}") from (
            None if family.discreet else error
        )
    moments = pa.array([datetime.fromisoformat("1970-01-01T00:00+00:00")] * len(frame))
    return Rows(table.append_column("as_of", moments), frame["label"].to_numpy(), [])


def border_problems(family: ModelFamily) -> Iterator[Problem]:
    """What is wrong with the family's border cases."""
    try:
        border_cases(family)
    except ConfigError as error:
        yield Problem(family.folder / BORDER_CASES, "", str(error))


def _learnt_until(version: Scorer) -> datetime:
    return version.version.manifest.training[1]


def _told(family: ModelFamily, rows: Rows, model: Scorer) -> _Told:
    try:
        predicted = model.predict(rows.table)
    except ScoringError as error:
        raise TrainingError(f"{model}: the comparison failed: {error}") from error
    told = pd.DataFrame(
        {
            "as_of": rows.table["as_of"].to_pandas(),
            "value": rows.value,
            "score": predicted.score,
            "label": predicted.label,
        }
    )
    known = stats.outcomes(told, family.task)
    return _Told(model, told, *stats.figure(family.performance.metric, family.task, known))


def _calibration(told: pd.DataFrame) -> dict[str, list[float]]:
    """The share of ones by score, rising: the corners of an isotonic regression."""
    from sklearn.isotonic import IsotonicRegression

    truth = told["value"].to_numpy(dtype=np.float64)
    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(told["score"], truth)
    return {"score": fitted.X_thresholds_.tolist(), "share": fitted.y_thresholds_.tolist()}
