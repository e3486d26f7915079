"""What comes after the proof: shadows and probation.

A challenger that was proven may have to score beside the champion for a while (a shadow), to be
approved by a person, and, once it serves, to hold what it promised (probation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from nightshift import policy, registry, stats
from nightshift.data import Database, Store, Transaction, as_json
from nightshift.documents import Inputs, Worth
from nightshift.errors import RegistryError, ScoringError
from nightshift.family import ModelFamily, next_tick
from nightshift.promotion.predecessors import (
    Load,
    Predecessor,
    frozen_nights,
    matured,
    predictions_of,
)
from nightshift.records import (
    READERS,
    SHADOW,
    About,
    Comparison,
    Decision,
    DecisionKind,
    Version,
)
from nightshift.wording import Gauge, count, figures, share


@dataclass(frozen=True)
class Shadow:
    """A challenger (``newer``, with its ``number``) that scores beside the champion (``older``).

    ``champion`` is the version that serves by now. ``carried`` are the gains by night that it takes
    along from its comparison, ``below`` says whether the champion was surely below its threshold,
    ``short`` is what that one fell short of perfection.
    """

    shadow_id: int
    model_id: int
    model: str
    older: int
    newer: int
    number: int
    comparison_id: int
    starts: datetime
    ends: datetime
    champion: int
    carried: tuple[float, ...] = ()
    below: bool = False
    short: float = 0.0

    kind: ClassVar[Literal["shadow"]] = "shadow"

    @property
    def about(self) -> About:
        """What its end is a decision about."""
        return About.shadow(self.shadow_id)


@dataclass(frozen=True)
class Probation:
    """A new champion (``newer``) that must hold its own against its predecessor (``older``).

    ``seq`` is the promotion, ``reference`` what the predecessor was worth at its own.
    """

    model_id: int
    model: str
    seq: int
    older: int
    older_number: int
    newer: int
    number: int
    starts: datetime
    ends: datetime
    reference: Worth | None

    kind: ClassVar[Literal["probation"]] = "probation"

    @property
    def about(self) -> About:
        """What its end is a decision about: a version may be promoted twice."""
        return About.probation(self.newer, self.seq)


@dataclass(frozen=True)
class Trial:
    """What two versions were worth on the same matured nights, as it was known at ``as_of``.

    ``difference`` is newer minus older in the metric, the mean of the nights; None without any. In
    a shadow the evidence is for the newer, on probation for the older.
    """

    model_id: int
    as_of: datetime
    kind: Literal["shadow", "probation"]
    older: int
    newer: int
    metric: str
    nights: int
    row_count: int
    difference: float | None
    evidence: float
    needed: float

    @property
    def proven(self) -> bool:
        """Whether there is enough evidence, however often it was looked at."""
        return self.evidence >= self.needed

    def sentence(self, gauge: Gauge) -> str:
        """Its figures, in words."""
        if self.difference is None:
            return f"no night with its labels could tell its {gauge.name} from the other's"
        side = "better" if self.difference > 0 else "worse"
        evidence, needed = figures([self.evidence], self.needed)
        return (
            f"{side} by {gauge.by(self.difference)} on {count(self.nights, 'night')}"
            f" ({self.row_count:,} rows): evidence {evidence}, and {needed} is needed"
        )


def begin_shadow(
    tx: Transaction,
    family: ModelFamily,
    comparison_id: int,
    compared: Comparison,
    verdict: Decision,
    decision_id: int,
    *,
    now: datetime,
) -> None:
    """From now on the challenger scores every night beside the champion, unseen by readers.

    An older challenger of the model that is still in shadow makes way for it.

    Parameters
    ----------
    verdict, decision_id
        What was decided about the comparison.
    """
    proof = policy.is_proof(compared, family.promotion)
    lasts = family.promotion.shadow if proof else family.promotion.unproven
    lasts = lasts or family.promotion.shadow
    assert lasts is not None
    newer = registry.version(tx, compared.challenger_version)
    for older in shadows(tx, family.family, now, model_id=verdict.model_id):
        told = f"version {newer.number} has taken its place"
        ended = _about(older, "reject", "superseded", told, verdict.as_of)
        registry.decide(tx, ended, about=older.about, now=now)
    tx.run(
        "trials.begin_shadow",
        model_id=verdict.model_id,
        version_id=compared.challenger_version,
        instead_of=compared.champion_version,
        decision_id=decision_id,
        comparison_id=comparison_id,
        starts=now,
        ends=now + lasts,
        carried=as_json([] if proof else [asdict(night) for night in compared.gains]),
    )


def shadows(
    tx: Transaction, family: str, as_of: datetime, *, model_id: int | None = None
) -> list[Shadow]:
    """The challengers that score beside their champions, whether or not their time is over."""
    rows = tx.rows("trials.shadows", family=family, as_of=as_of, model_id=model_id)
    return [_shadow(row._mapping) for row in rows]


def _shadow(row: Any) -> Shadow:
    stored = dict(row)
    short = policy.short_of_perfect(stored.pop("perfect"), stored.pop("champion_value"))
    carried = tuple(night["gain"] for night in stored.pop("carried"))
    return Shadow(**stored, carried=carried, short=short)


def learning(tx: Transaction, family: str, as_of: datetime) -> dict[int, datetime]:
    """Until when challengers in shadow have learnt, by model id."""
    return {
        shadow.model_id: registry.version(tx, shadow.newer).manifest.training[1]
        for shadow in shadows(tx, family, as_of)
        if as_of <= shadow.ends and shadow.champion == shadow.older
    }


def beside(tx: Transaction, family: str, as_of: datetime) -> dict[int, Version]:
    """Who scores a night beside which version: challengers in shadow, by the champion's id."""
    return {
        shadow.older: registry.version(tx, shadow.newer)
        for shadow in shadows(tx, family, as_of)
        if as_of <= shadow.ends
    }


def probations(tx: Transaction, family: ModelFamily, as_of: datetime) -> list[Probation]:
    """The champions whose nights under probation have not all matured yet."""
    lasts = family.promotion.probation
    if lasts is None:
        return []
    between = next_tick(family.schedule.monitor, family.schedule.timezone, as_of) - as_of
    since = as_of - lasts - family.labels.maturity - between
    rows = tx.rows("trials.probations", family=family.family, as_of=as_of, since=since)
    return [
        Probation(
            **{**row._mapping, "reference": Worth.parse(row.reference)}, ends=row.starts + lasts
        )
        for row in rows
    ]


def judge(
    database: Database,
    store: Store,
    family: ModelFamily,
    load: Load,
    as_of: datetime,
    *,
    now: datetime,
) -> list[tuple[Shadow | Probation, Decision]]:
    """Look at every shadow and every probation of a family; those that end, with the verdict.

    Only nights count whose labels are complete enough at ``as_of``. What each has come to is
    stored; a predecessor that cannot score the nights is recorded and left out.

    Parameters
    ----------
    load
        Opens a version, see :meth:`nightshift.registry.Registry.load`.
    """
    with database.transaction() as tx:
        tried = shadows(tx, family.family, as_of)
        served = probations(tx, family, as_of)
    told = _nights_told(database, family, [*tried, *served], as_of)
    pairs = {shadow.about: _beside_champion(family, told, shadow) for shadow in tried}
    pairs |= _beside_predecessor(database, store, family, told, served, load, as_of, now)
    open_trials: list[Shadow | Probation] = [*tried, *served]
    ended = []
    with database.transaction() as tx:
        for one in open_trials:
            if one.about not in pairs:
                continue
            trial, verdict = looked_at(family, one, *pairs[one.about], as_of)
            tx.run("trials.append", **asdict(trial), judged_at=now)
            if verdict is not None:
                ended.append((one, verdict))
    return ended


def looked_at(
    family: ModelFamily,
    one: Shadow | Probation,
    older: pd.DataFrame,
    newer: pd.DataFrame,
    as_of: datetime,
) -> tuple[Trial, Decision | None]:
    """What a trial has come to, and how it ends; None where it goes on.

    Parameters
    ----------
    older, newer
        What either version told of the same labelled rows: ``as_of``, ``score``, ``label`` and
        ``value``.
    """
    trial, ruling = _trial(family, one, older, newer, as_of)
    return trial, _verdict(family, one, trial, ruling)


def decided(tx: Transaction, family: str, as_of: datetime) -> list[int]:
    """The decisions that ended shadows and probations of a family at a moment."""
    return sorted(row.decision_id for row in registry.trial_ends(tx, family, as_of))


def _trial(
    family: ModelFamily,
    one: Shadow | Probation,
    older: pd.DataFrame,
    newer: pd.DataFrame,
    as_of: datetime,
) -> tuple[Trial, policy.Ruling | None]:
    """What a trial has come to; of a shadow with the ruling on all its evidence."""
    metric, promotion = family.performance.metric, family.promotion
    nights = (
        stats.nightly_differences(
            metric,
            family.task,
            stats.outcomes(older, family.task),
            stats.outcomes(newer, family.task),
            stats.nights_of(newer),
        )
        if len(newer)
        else np.array([])
    )
    ruling = None
    if isinstance(one, Shadow):
        nights = np.concatenate([one.carried, nights])
        ruling = policy.look(
            nights,
            one.short,
            below=one.below,
            confidence=promotion.confidence,
            tolerance=promotion.tolerance,
            margin=promotion.margin,
        )
    gains = nights - promotion.margin if isinstance(one, Shadow) else -nights
    evidence = stats.anytime(gains, confidence=promotion.confidence)
    trial = Trial(
        one.model_id,
        as_of,
        one.kind,
        one.older,
        one.newer,
        metric,
        len(nights),
        len(newer),
        float(nights.mean()) if len(nights) else None,
        evidence.value,
        evidence.needed,
    )
    return trial, ruling


def _verdict(
    family: ModelFamily, one: Shadow | Probation, trial: Trial, ruling: policy.Ruling | None
) -> Decision | None:
    """How a trial ends; None where it goes on."""
    if isinstance(one, Probation):
        if not trial.proven:
            return None
        told = (
            f"{trial.sentence(family.performance.gauge())}; version {one.older_number} serves again"
        )
        return _about(one, "rollback", "probation", told, trial.as_of, trial)
    if one.champion != one.older:
        told = "the champion that it scored beside was replaced"
        return _about(one, "reject", "champion_replaced", told, trial.as_of, trial)
    told = trial.sentence(family.performance.gauge())
    if trial.proven:
        return _about(one, *policy.proven(family.promotion, told), trial.as_of, trial)
    return _unproven(family, one, trial, ruling)


def _unproven(
    family: ModelFamily, shadow: Shadow, trial: Trial, ruling: policy.Ruling | None
) -> Decision | None:
    told = trial.sentence(family.performance.gauge())
    if ruling is not None and ruling.kind == "promote":
        told += (
            "; the champion had failed its threshold, and it is surely not worse by"
            f" {share(family.promotion.tolerance)}"
        )
        verdict = policy.proven(family.promotion, told, "not_worse")
        return _about(shadow, *verdict, trial.as_of, trial)
    if trial.as_of - family.labels.maturity >= shadow.ends:
        told = f"{told}; its time is over"
        return _about(shadow, "reject", "shadow_without_proof", told, trial.as_of, trial)
    return None


def _about(
    one: Shadow | Probation,
    kind: DecisionKind,
    rule: str,
    told: str,
    as_of: datetime,
    trial: Trial | None = None,
) -> Decision:
    inputs = {"starts": one.starts, "ends": one.ends, "older": one.older, "newer": one.newer}
    inputs |= asdict(trial) if trial else {}
    where = "in shadow" if isinstance(one, Shadow) else "on probation"
    reason = f"version {one.number}, {where}: {told}"
    return Decision(one.model_id, kind, rule, reason, as_of, Inputs(inputs))


def _nights_told(
    database: Database, family: ModelFamily, tried: Sequence[Shadow | Probation], as_of: datetime
) -> dict[tuple[int, int], pd.DataFrame]:
    """What the versions on trial have told of matured nights, by version and role."""
    if not tried:
        return {}
    versions = {one.newer for one in tried} | {one.older for one in tried if one.kind == "shadow"}
    start = min(one.starts for one in tried)
    return predictions_of(database, family, sorted(versions), start, as_of)


def _beside_champion(
    family: ModelFamily, told: Mapping[tuple[int, int], pd.DataFrame], shadow: Shadow
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Champion and challenger on the labelled rows of the nights that both have scored."""
    both = (
        _of_trial(shadow, told.get(key, _NOTHING)).set_index(["as_of", "entity_id"], drop=False)
        for key in ((shadow.older, READERS), (shadow.newer, SHADOW))
    )
    older, newer = both
    newer = matured(family, newer[newer.index.isin(older.index)])
    return older.loc[newer.index], newer


def _beside_predecessor(
    database: Database,
    store: Store,
    family: ModelFamily,
    told: Mapping[tuple[int, int], pd.DataFrame],
    served: Sequence[Probation],
    load: Load,
    as_of: datetime,
    now: datetime,
) -> dict[About, tuple[pd.DataFrame, pd.DataFrame]]:
    """Champions on the nights they have served, and what their predecessors would have told."""
    found: dict[About, tuple[pd.DataFrame, pd.DataFrame]] = {}
    asked: list[tuple[Probation, Predecessor]] = []
    with database.transaction() as tx:
        for one in served:
            rows = matured(family, _of_trial(one, told.get((one.newer, READERS), _NOTHING)))
            found[one.about] = rows, rows
            if len(rows):
                asked.append((one, Predecessor(registry.version(tx, one.older), rows)))
    start = min((one.starts for one in served), default=as_of)
    for night, table in frozen_nights(database, store, family, start, as_of) if asked else ():
        for probation, predecessor in list(asked):
            try:
                predecessor.see(night, table, load)
            except (ScoringError, RegistryError) as error:
                _left_out(database, family, probation, error, as_of, now)
                asked.remove((probation, predecessor))
                del found[probation.about]
    for probation, predecessor in asked:
        try:
            found[probation.about] = predecessor.told(load)
        except (ScoringError, RegistryError) as error:
            _left_out(database, family, probation, error, as_of, now)
            del found[probation.about]
    return found


def _left_out(
    database: Database,
    family: ModelFamily,
    one: Probation,
    error: Exception,
    as_of: datetime,
    now: datetime,
) -> None:
    with database.transaction() as tx:
        tx.record(
            "probation_failed",
            now=now,
            family=family.family,
            as_of=as_of,
            model=one.model,
            version=one.older_number,
            reason=str(error),
        )


def _of_trial(one: Shadow | Probation, rows: pd.DataFrame) -> pd.DataFrame:
    return rows[(rows["as_of"] > one.starts) & (rows["as_of"] <= one.ends)]


_NOTHING = pd.DataFrame(
    {name: [] for name in ("entity_id", "version_id", "role", "score", "label", "value")}
    | {"as_of": pd.Series([], dtype="datetime64[us, UTC]")}
)
