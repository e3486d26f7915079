"""What is stored as JSON, read back: a frozen type for each kind of document, with one parser.

A document of an earlier release lacks keys. What it meant without them is said here and nowhere
else. ``stored`` is the document as it is kept: what a signature covers and what a page shows. It is
a mapping too, for what is only passed on or shown; whoever computes with a fact reads it by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Stretch = tuple[datetime, datetime]
"""The nights after one moment until another one."""


@dataclass(frozen=True)
class Document(Mapping[str, Any]):
    """A JSON object as it is stored."""

    stored: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.stored[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)


@dataclass(frozen=True)
class Reference:
    """What a version was worth when it was promoted, on rows it was not trained on.

    ``value`` is the metric, ``error`` its standard error, ``spread`` the standard deviation of a
    night's true level around it (0 where nights differ by chance only). ``deviation`` is that of
    one row's pull on the metric (over the root of a night's labels: its standard error), and
    ``skewness`` is how lopsided the pulls are, below zero where bad ones reach further. ``single``
    is how far the metric of single nights lies above that of all together: 0 for means. ``guess``
    is what the nights' own constant guesses were worth, None where that is not told.
    """

    value: float
    error: float
    spread: float = 0.0
    deviation: float = 0.0
    skewness: float = 0.0
    single: float = 0.0
    guess: float | None = None


@dataclass(frozen=True)
class Guess:
    """A prediction that is the same for all rows: a score, and of several classes a label."""

    score: float
    label: str | None = None


@dataclass(frozen=True)
class Shift:
    """What the sequential detector has gathered: ``evidence`` against its ``limit``.

    ``since`` is the first night of the stretch that speaks loudest for a fall below the threshold;
    None where no stretch does.
    """

    evidence: float
    limit: float
    since: datetime | None

    @property
    def detected(self) -> bool:
        """Whether the evidence has reached the limit."""
        return self.evidence >= self.limit


@dataclass(frozen=True)
class Worth(Document):
    """What a version is worth on rows it was not trained on, and how its scores lie there."""

    @classmethod
    def parse(cls, stored: Mapping[str, Any] | None) -> Worth | None:
        """The document of a comparison or a promotion; None where none was stored."""
        return None if stored is None else cls(stored)

    def of(self, metric: str) -> Reference | None:
        """Its worth in a metric; None where that is not told."""
        figures = self.stored.get("metrics", {}).get(metric)
        return Reference(**figures) if figures else None

    @property
    def no_looser_than(self) -> float | None:
        """The threshold that its predecessor was below; None where it was below none."""
        bound = self.stored.get("no_looser_than")
        return None if bound is None else float(bound)

    def capped(self, threshold: float | None) -> Worth:
        """The same, of a version that follows one that was surely below a threshold."""
        return self if threshold is None else Worth({**self.stored, "no_looser_than": threshold})

    @property
    def scores(self) -> dict[str, Any] | None:
        """The histogram of its scores, as :func:`nightshift.tables.histogram` makes it."""
        return self.stored.get("scores") or None

    @property
    def calibration(self) -> dict[str, Any] | None:
        """``score`` and ``share`` at its corners; of binary classifiers only."""
        return self.stored.get("calibration") or None


@dataclass(frozen=True)
class Base:
    """The version that an incremental training went on from."""

    version_id: int
    number: int
    artifact_hash: str


@dataclass(frozen=True)
class Manifest(Document):
    """How a version was made: all that making it again takes, and what training saw."""

    @property
    def task(self) -> str:
        """The family's task, as model.yaml names it."""
        return str(self.stored["task"])

    @property
    def discreet(self) -> bool:
        """Whether messages must not repeat what its family's data say."""
        return bool(self.stored.get("discreet"))

    @property
    def features(self) -> dict[str, Any]:
        """The section ``features`` of model.yaml at that time."""
        return dict(self.stored["features"])

    @property
    def columns(self) -> frozenset[str]:
        """The columns of features.sql that the version needs."""
        return frozenset((*self.features["numeric"], *self.features["categorical"]))

    @property
    def policy(self) -> dict[str, Any]:
        """The section ``retrain.training``; before it had policies, a window."""
        start, end = self.training
        return dict(self.stored.get("policy") or {"window": end - start})

    @property
    def base(self) -> Base | None:
        """What it went on from; None where it made a fresh start."""
        base = self.stored.get("base")
        return Base(**base) if base else None

    @property
    def guess(self) -> Guess | None:
        """The best constant of the rows it has learnt from; None where that is not told."""
        guess = self.stored.get("guess")
        return Guess(**guess) if guess else None

    @property
    def learnt_coverage(self) -> float | None:
        """The share of rows with labels on the nights learnt from; None where it is not told."""
        share = self.stored.get("coverage", {}).get("training")
        return None if share is None else float(share)

    @property
    def build(self) -> str:
        """``module.function`` of the family's estimator."""
        return str(self.stored["estimator"]["build"])

    @property
    def params(self) -> dict[str, Any]:
        """The estimator's parameters, those that a search has found among them."""
        return dict(self.stored["estimator"]["params"])

    @property
    def seed(self) -> int:
        """The estimator's seed."""
        return int(self.stored["estimator"]["seed"])

    @property
    def threads(self) -> int:
        """How many threads it was fitted with: bytes may depend on it."""
        return int(self.stored["threads"])

    @property
    def cutoff(self) -> datetime:
        """What was known then was known to the training."""
        return datetime.fromisoformat(self.stored["cutoff"])

    @property
    def training(self) -> Stretch:
        """From before the first night it has learnt from to the last one."""
        return _stretch(self.stored["training"])

    @property
    def spans(self) -> tuple[Stretch, ...]:
        """The stretches it has learnt from; before there were several, the one."""
        return tuple(map(_stretch, self.stored.get("spans", [self.stored["training"]])))

    @property
    def holdout(self) -> Stretch:
        """The later nights that were kept for the comparison."""
        return _stretch(self.stored["holdout"])

    @property
    def labels_since(self) -> datetime:
        """Labels stated before were left out; where it is not told, those before the nights."""
        return datetime.fromisoformat(self.stored.get("labels_since", self.stored["training"][0]))

    def excluded_by(self, trained_at: datetime) -> datetime:
        """Until when entities were excluded; where it is not told, until it was trained."""
        moment = self.stored.get("excluded_by")
        return datetime.fromisoformat(moment) if moment else trained_at

    @property
    def snapshots(self) -> tuple[str, ...]:
        """The content hashes of the nights it has learnt from."""
        return tuple(self.stored["snapshots"])

    @property
    def nights(self) -> tuple[datetime, ...] | None:
        """Their moments, in the same order; None where they are not told."""
        moments = self.stored.get("nights")
        return None if moments is None else tuple(map(datetime.fromisoformat, moments))

    @property
    def rows(self) -> int:
        """How many rows it has learnt from."""
        return int(self.stored["rows"])

    @property
    def profile(self) -> dict[str, Any]:
        """What training saw, as :func:`nightshift.tables.profile` makes it."""
        return dict(self.stored["profile"])

    @property
    def libraries(self) -> Mapping[str, str]:
        """Library to its version, Python and Nightshift among them."""
        ours = {name: self.stored[name] for name in ("python", "nightshift")}
        return ours | dict(self.stored["libraries"])

    @property
    def code(self) -> str | None:
        """The hash of the family's files; None where it was not told yet."""
        code_hash = self.stored.get("code", {}).get("family")
        return None if code_hash is None else str(code_hash)


@dataclass(frozen=True)
class Latest:
    """The decisive measurement that a decision looked at first."""

    state: str
    value: float | None
    threshold: float | None


@dataclass(frozen=True)
class Inputs(Document):
    """What a decision was made from, as it is stored with it. Every kind of decision has its own.

    What is not told of a kind is None.
    """

    def and_(self, **more: Any) -> Inputs:
        """These and more."""
        return Inputs({**self.stored, **more})

    @property
    def latest(self) -> Latest | None:
        """The measurement that was looked at; None where nothing was measured."""
        measured = self.stored.get("measurements") or [None]
        if measured[0] is None:
            return None
        return Latest(*(measured[0][name] for name in ("state", "value", "threshold")))

    @property
    def shift(self) -> Shift | None:
        """What the sequential detector said."""
        shift = self.stored.get("shift")
        if not shift:
            return None
        return Shift(shift["evidence"], shift["limit"], _moment(shift["since"]))

    @property
    def below(self) -> bool:
        """Whether the champion was surely below its threshold."""
        return bool(self.stored.get("below"))

    @property
    def group(self) -> str | None:
        """The group whose votes were counted."""
        group = self.stored.get("group")
        return None if group is None else str(group)

    @property
    def votes(self) -> Mapping[str, int]:
        """How many models of the group voted ``fail``, ``pass`` and ``unknown``.

        Of a large group a decision keeps how many votes there were, not everybody's.
        """
        return Counter(self.stored.get("counted") or Counter(self.stored.get("votes", {}).values()))

    @property
    def last_retrain(self) -> datetime | None:
        """When the model was last told to retrain."""
        return _moment(self.stored.get("last_retrain"))

    @property
    def fresh_labels(self) -> int:
        """How many labels have matured since then."""
        return int(self.stored.get("fresh_labels") or 0)

    @property
    def rescore(self) -> bool:
        """Of a rollback: whether the nights of the bad version are scored again."""
        return bool(self.stored["rescore"])

    @property
    def newer(self) -> int:
        """Of a rollback: the id of the bad version."""
        return int(self.stored["newer"])

    @property
    def since(self) -> datetime:
        """Of a rollback: since when the bad version served."""
        since = _moment(self.stored["since"])
        assert since is not None
        return since


def _stretch(moments: Any) -> Stretch:
    start, end = map(datetime.fromisoformat, moments)
    return start, end


def _moment(stored: datetime | str | None) -> datetime | None:
    return datetime.fromisoformat(stored) if isinstance(stored, str) else stored
