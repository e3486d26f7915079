"""The models of a family: who they are, who serves them, and where they stand.

Joins what the rooms know, for the steps that deal with a whole family at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from nightshift import monitoring, night, promotion, registry, training
from nightshift.data import Database, Store, Transaction
from nightshift.documents import Reference
from nightshift.errors import ConfigError, TrainingError
from nightshift.family import Features, ModelFamily, Retrain
from nightshift.records import Level, Measurement, Model, Night, Standing, Version
from nightshift.registry import Champion
from nightshift.wording import nearest

NOT_YET = 0
"""The id of a member that no batch has made a model of yet."""


def models(tx: Transaction, family: ModelFamily, as_of: datetime, *, now: datetime) -> list[Model]:
    """The active models of a family; the one of the whole family is made at its first mention."""
    _whole(tx, family, as_of, now)
    return registry.members(tx, family.family, as_of)


def serving(
    tx: Transaction,
    family: ModelFamily,
    as_of: datetime,
    members: Mapping[str | None, night.MemberRows],
    *,
    now: datetime,
) -> night.Serving:
    """Who scores the members found in a snapshot; new ones become models."""
    champions = registry.champions(tx, family.family, as_of)
    whole = _whole(tx, family, as_of, now)
    shadows = promotion.beside(tx, family.family, as_of)
    if family.models is None:
        assert whole is not None
        return night.Serving({None: (whole, _version(champions, whole))}, shadows=shadows)
    groups = {name: own.group for name, own in members.items() if name is not None}
    if whole is not None and family.family in groups:
        del groups[family.family]
        _refuse_name(tx, family, as_of, now)
    enrolled = registry.enroll(tx, family, groups, as_of, now=now)
    return night.Serving(
        {name: (model, _version(champions, model)) for name, model in enrolled.items()},
        fallback=_version(champions, whole) if whole else None,
        shadows=shadows,
    )


def posted_serving(
    tx: Transaction, family: ModelFamily, members: Iterable[str | None], as_of: datetime
) -> night.Serving:
    """Who scores rows that are posted at ``as_of``, by the members found in them.

    Nobody becomes a model by being asked about.
    """
    mentioned = {
        model.name: model for model in registry.members(tx, family.family, as_of, retired=True)
    }

    def served(name: str) -> tuple[Model, Version | None]:
        model = mentioned.get(name)
        if model is None:
            return Model(NOT_YET, family.family, name), None
        return model, registry.champion(tx, model.model_id, as_of)

    if family.models is None:
        return night.Serving({None: served(family.family)})
    own = [
        name
        for name in members
        if name is not None and family.models.includes(name) and not family.is_whole(name)
    ]
    return night.Serving(
        {name: served(name) for name in own},
        fallback=served(family.family)[1] if family.models.fallback else None,
    )


def _whole(tx: Transaction, family: ModelFamily, as_of: datetime, now: datetime) -> Model | None:
    """The model of the whole family; None in a factory without a fallback."""
    name = family.family
    if family.models is not None and not family.models.fallback:
        return None
    return registry.enroll(tx, family, {name: None}, as_of, now=now)[name]


def _refuse_name(tx: Transaction, family: ModelFamily, as_of: datetime, now: datetime) -> None:
    """Say that a member cannot be a model of its own, for the fallback is called so already."""
    tx.record(
        "member_refused",
        now=now,
        family=family.family,
        as_of=as_of,
        reason=f"{family.family}: {taken_name(family)}",
    )


def taken_name(family: ModelFamily) -> str:
    """Why a member of a factory with a fallback gets no model where it is called as the family."""
    assert family.models is not None
    return (
        f"{family.models.by} has the value {family.family!r}, and so is called the model of the"
        " whole family, which models.fallback asks for: that model scores those rows. Give the"
        " family or the value another name, and it gets a model of its own"
    )


def _version(champions: Mapping[int, Champion], model: Model) -> Version | None:
    champion = champions.get(model.model_id)
    return champion.version if champion else None


def standings(
    database: Database,
    store: Store,
    family: ModelFamily,
    as_of: datetime,
    *,
    now: datetime,
    rows: training.Rows | None = None,
) -> list[Standing]:
    """Where each active model of a family stands at ``as_of``.

    With ``rows`` to learn from, the members in them that were never seen before become models.
    """
    with database.transaction() as tx:
        if rows is not None:
            _enroll(tx, family, rows, as_of, now)
        active = models(tx, family, as_of, now=now)
        champions = registry.champions(tx, family.family, as_of)
        recent = monitoring.recent(tx, family, as_of)
        signals = monitoring.signals(tx, family, as_of)
        retrains = registry.last_retrains(tx, family.family, as_of)
        nights = monitoring.nights_judged(tx, family, champions, as_of)
        failures = registry.failures(tx, family.family, as_of)
        shadows = promotion.learning(tx, family.family, as_of)
    if rows is None and any(
        model.model_id not in champions or not _can_score(family, champions[model.model_id])
        for model in active
    ):
        learn = training.plan(family, as_of, now=now).learn
        renewable = family.source.history == "append_only"
        rows = training.labelled_rows(
            database, store, family, learn, as_of, now=now, renewable=renewable
        )
    references = monitoring.references(family, champions)
    facts = Facts(champions, references, recent, nights, signals, retrains, failures, shadows, rows)
    return [standing(family, model, as_of, facts) for model in active]


@dataclass(frozen=True)
class Facts:
    """What the rooms know of a family's models, by model id."""

    champions: Mapping[int, Champion]
    references: Mapping[int, Reference]
    recent: Mapping[int, tuple[Measurement, ...]]
    nights: Mapping[int, tuple[Night, ...]]
    signals: Mapping[int, Mapping[str, tuple[Level, ...]]]
    retrains: Mapping[int, datetime]
    failures: Mapping[int, int]
    shadows: Mapping[int, datetime]
    rows: training.Rows | None


def standing(family: ModelFamily, model: Model, as_of: datetime, facts: Facts) -> Standing:
    """Where one model stands, from what is known of it."""
    champion = facts.champions.get(model.model_id)
    recent = facts.recent.get(model.model_id, ())
    last_retrain = facts.retrains.get(model.model_id)
    nights = facts.nights.get(model.model_id, ())
    reference = facts.references.get(model.model_id)
    measured = recent if champion is not None and recent and recent[0].as_of == as_of else ()
    own = facts.rows.of(family, model) if facts.rows is not None else None
    fresh = None
    if last_retrain is not None:
        if measured:
            fresh = monitoring.fresh_labels(measured[0], last_retrain)
        elif own is not None:
            fresh = len(own.after(last_retrain - family.labels.maturity))
    return Standing(
        model_id=model.model_id,
        name=model.name,
        as_of=as_of,
        group=model.group,
        measurements=measured,
        shift=monitoring.shift(family, model.name, champion, nights, reference)
        if champion and measured
        else None,
        whole_window=bool(measured) and monitoring.whole_window(family, measured[0]),
        signals=facts.signals.get(model.model_id, {}),
        last_retrain=last_retrain,
        failures=facts.failures.get(model.model_id, 0),
        shadow_learnt_until=facts.shadows.get(model.model_id),
        fresh_labels=fresh,
        has_champion=champion is not None and _can_score(family, champion),
        trainable=len(own) if own is not None else 0,
        say_as=family.performance.say_as,
    )


def _can_score(family: ModelFamily, champion: Champion) -> bool:
    """Whether the family still has the columns that a champion needs; else it needs another."""
    features = Features.model_validate(champion.version.manifest["features"])
    return set(features.names) <= set(family.columns)


def retrainable(
    family: ModelFamily,
    standings: Sequence[Standing],
    members: Sequence[str] | None,
    rows: training.Rows | None = None,
) -> list[Standing]:
    """Of whom a retrain is asked: those named, or all that have enough labels."""
    by_name = {standing.name: standing for standing in standings}
    if members is not None:
        for name in members:
            if name not in by_name:
                hint = nearest(name, by_name)
                raise ConfigError(f"{family.family} has no active model {name!r}{hint}")
        return [by_name[name] for name in dict.fromkeys(members)]
    if family.models is None:
        return list(standings)
    least = training.least_rows(family)
    causes = list(rows.shortage.sentences(family)) if rows is not None else []
    advice = "; ".join(causes) or "collect labels, or widen retrain.training.window"
    enough = [standing for standing in standings if standing.trainable >= least]
    if not enough:
        most = max((standing.trainable for standing in standings), default=0)
        raise TrainingError(
            f"{family.family}: no model has the {least} labelled rows that a training needs"
            f" (retrain.training.min_rows); the most of {len(standings)} models are {most}:"
            f" {advice}"
        )
    return enough


def rule(family: ModelFamily) -> Retrain:
    """The retrain rule with its default for ``training.min_rows`` filled in."""
    learnt = family.retrain.training.model_copy(update={"min_rows": training.least_rows(family)})
    return family.retrain.model_copy(update={"training": learnt})


def _enroll(
    tx: Transaction, family: ModelFamily, rows: training.Rows, as_of: datetime, now: datetime
) -> None:
    """Make models of members that were never seen before, from rows to learn from."""
    if family.models is None or not len(rows):
        return
    active_or_retired = registry.members(tx, family.family, as_of, retired=True)
    mentioned = {model.name for model in active_or_retired}
    names = rows.table[family.models.by].to_pylist()
    groups = rows.table[family.models.group_by or family.models.by].to_pylist()
    groups_of = dict(
        zip(names, groups if family.models.group_by else [None] * len(names), strict=True)
    )
    new = {
        name: group
        for name, group in groups_of.items()
        if name not in mentioned and not family.is_whole(name)
    }
    registry.enroll(tx, family, new, as_of, now=now)
