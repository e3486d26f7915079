"""What every step stands on: a family at a moment, and the places where its things are."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from nightshift import policy, registry, sources
from nightshift.data import Database, Store, connect
from nightshift.errors import (
    FOREIGN,
    ConfigError,
    DatabaseError,
    InternalError,
    NightshiftError,
    SetupError,
    words_of,
)
from nightshift.family import ModelFamily
from nightshift.records import About, Decision, Version
from nightshift.registry import Registry
from nightshift.site import Settings, Site

BUDGET_NIGHT = timedelta(days=1)
"""How far back retrains count against the budget of a night."""

UNSEEN_GRACE = timedelta(days=1)
"""How long rows that no reader sees are kept: longer than any run that may still publish them."""


@dataclass(frozen=True)
class Frame:
    """A family at the moment ``as_of`` that a step is about, done at the present moment ``now``.

    Whatever a step needs besides is reached from here, and made when it is first asked for.
    """

    site: Site
    family_name: str
    as_of: datetime
    now: datetime

    @cached_property
    def family(self) -> ModelFamily:
        """The family as its folder says now; a ConfigError where that is wrong."""
        return self.site.family(self.family_name)

    @property
    def database(self) -> Database:
        """The ``nightshift`` database, as its writer."""
        return connect(self.site.database_url)

    @cached_property
    def store(self) -> Store:
        """Snapshots and artifacts."""
        return store_of(self.site)

    @cached_property
    def registry(self) -> Registry:
        """Versions, with the key that signs them."""
        return Registry(self.store, self.site.keys, self.site.models)

    @property
    def source(self) -> sources.Source:
        """The family's source, read-only."""
        return source_of(self.site, self.family)

    @cached_property
    def names(self) -> sources.Names:
        """How the family's entities are told."""
        return sources.names_of(self.database, self.family, self.site.keys, now=self.now)

    @property
    def settings(self) -> Settings:
        """What holds for all families."""
        return self.site.settings


@contextmanager
def audited(site: Site, family_name: str, as_of: datetime, now: datetime) -> Iterator[Frame]:
    """The frame of a step whose refusals go into the audit trail.

    What is none of our refusals is recorded as well, and leaves as an InternalError.
    """
    site.require(family_name)
    frame = Frame(site, family_name, as_of, now)
    try:
        yield frame
    except NightshiftError as error:
        _record(frame, error)
        raise
    except FOREIGN as error:  # whatever nobody foresaw must not vanish, nor leave as it is
        discreet = _discreet(frame)
        unforeseen = InternalError(words_of(error, discreet=discreet))
        unforeseen.add_note("".join(traceback.format_tb(error.__traceback__)))
        _record(frame, unforeseen)
        raise unforeseen from (None if discreet else error)


def each(work: Iterable[tuple[AbstractContextManager[Frame], Callable[[Frame], int]]]) -> list[int]:
    """What each piece of work returns, without those that were refused; all refused is an error.

    An outage ends the work: it is nobody's fault in particular, and all of it is tried again.
    """
    results, refused = [], []
    for audited_frame, piece in work:
        try:
            with audited_frame as frame:
                results.append(piece(frame))
        except NightshiftError as error:
            if error.transient:
                raise
            refused.append(error)
    if refused and not results:
        raise refused[0]
    return results


def loadable(site: Site, names: Iterable[str]) -> Iterator[ModelFamily]:
    """The families of these names whose folders load; the others' own runs tell what is wrong."""
    for name in names:
        try:
            yield site.family(name)
        except ConfigError:
            continue


def cutoff_of(version: Version) -> datetime:
    """The moment as of which a version was trained."""
    return version.manifest.cutoff


def source_of(site: Site, family: ModelFamily) -> sources.Source:
    """The source that a family reads, read-only; a ConfigError without such a connection."""
    name = family.source.connection
    try:
        return sources.open_source(name, site.source(name))
    except SetupError as error:
        file = family.folder / "model.yaml"
        raise ConfigError(f"{family.family}: {file}: source.connection: {error}") from error


def store_of(site: Site) -> Store:
    """The store of a site."""
    return Store(site.store, site.settings.chunk_rows)


def registry_of(site: Site) -> Registry:
    """The registry of a site."""
    return Registry(store_of(site), site.keys, site.models)


def _record(frame: Frame, error: NightshiftError) -> None:
    """Write a refusal into the audit trail; where even that is refused, the refusal says so."""
    try:
        with frame.database.transaction() as tx:
            tx.record(
                error.code,
                now=frame.now,
                family=frame.family_name,
                as_of=frame.as_of,
                reason=str(error),
            )
    except DatabaseError as lost:
        error.add_note(f"and it could not be written into the audit trail: {lost}")


def _discreet(frame: Frame) -> bool:
    """Whether an error's words may repeat what must not be repeated; unknown counts as yes."""
    try:
        return frame.family.discreet
    except NightshiftError:
        return True


def within_budget(frame: Frame, about: About, proposals: Sequence[Decision]) -> list[int]:
    """Record what is wanted and was not decided yet, as far as the budget of the night reaches.

    Returns the ids of the family's decisions to retrain about this, old and new.
    """
    with frame.database.transaction() as tx:
        spent = registry.retrains_spent(tx, frame.as_of - BUDGET_NIGHT, frame.as_of)
        before = registry.models_decided(tx, [decision.model_id for decision in proposals], about)
        fresh = [decision for decision in proposals if decision.model_id not in before]
        decisions = policy.within_budget(fresh, frame.settings.retrains_per_night, spent)
        registry.decide_all(tx, decisions, about=about, now=frame.now)
        return registry.retrains_of(tx, frame.family_name, about)
