"""Rows that somebody posts, scored at once; nothing of them is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from nightshift import tables
from nightshift.artifacts import LoadedVersion
from nightshift.family import ModelFamily
from nightshift.night.scoring import split
from nightshift.night.serving import Serving
from nightshift.records import Model, Version


@dataclass(frozen=True)
class Answer:
    """What is said about a posted row, as a batch would say it.

    ``model`` is the one that the row belongs to, ``scorer`` the version that scored it: with the
    flag ``fallback`` one of the whole family, None where nobody can score it.
    """

    entity_id: str
    model: str
    scorer: Version | None = None
    score: float | None = None
    label: str | None = None
    flags: tuple[str, ...] = ()


def answer(
    table: pa.Table,
    family: ModelFamily,
    serving: Serving,
    load: Callable[[Version], LoadedVersion],
) -> list[Answer]:
    """Score rows as a batch scores a snapshot that holds just these; nothing is stored.

    They are scored ordered by entity_id, as in a snapshot: the last bit of some estimators' scores
    depends on a row's place. The answers are in the order of ``table``.
    """
    by_entity: dict[str, Answer] = {}
    ordered = table.sort_by("entity_id")
    for member, numbers in split(ordered, family).items():
        part, version = ordered.take(numbers), serving.of(member)
        answers = (
            _unscored(part, member or family.family)
            if version is None
            else _answers(part, load(version), serving.owner(member, version))
        )
        by_entity.update({answer.entity_id: answer for answer in answers})
    return [by_entity[entity_id] for entity_id in table["entity_id"].to_pylist()]


def _unscored(part: pa.Table, model: str) -> Iterator[Answer]:
    for entity_id in part["entity_id"].to_pylist():
        yield Answer(entity_id, model)


def _answers(part: pa.Table, loaded: LoadedVersion, owner: Model) -> Iterator[Answer]:
    predicted = loaded.predict(part)
    fallback = owner.model_id != loaded.version.model.model_id
    labels = [None] * part.num_rows if predicted.label is None else predicted.label.tolist()
    for entity_id, score, label, flags in zip(
        part["entity_id"].to_pylist(),
        predicted.score.tolist(),
        labels,
        predicted.flags.tolist(),
        strict=True,
    ):
        yield Answer(
            entity_id,
            owner.name,
            loaded.version,
            score,
            label,
            (*tables.flag_names(flags), *(["fallback"] if fallback else [])),
        )
