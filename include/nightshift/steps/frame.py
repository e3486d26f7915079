"""What every step stands on: an audited database, the store, the registry, a source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta

from nightshift.data import Database, Store, connect
from nightshift.errors import ConfigError, DatabaseError, NightshiftError
from nightshift.family import ModelFamily
from nightshift.records import Version
from nightshift.registry import Registry
from nightshift.site import Site
from nightshift.wording import listed

UNSEEN_GRACE = timedelta(days=1)
"""How long rows that no reader sees are kept: longer than any run that may still publish them."""


@contextmanager
def _audited(site: Site, family: str, as_of: datetime, now: datetime) -> Iterator[Database]:
    """The database of a step whose refusals go into the audit trail."""
    database = connect(site.database_url)
    try:
        yield database
    except NightshiftError as error:
        try:
            with database.transaction() as tx:
                tx.record(error.code, now=now, family=family, as_of=as_of, reason=str(error))
        except DatabaseError as lost:
            error.add_note(f"and it could not be written into the audit trail: {lost}")
        raise


def _each(work: Iterable[tuple[AbstractContextManager[Database], Callable[[], int]]]) -> list[int]:
    """What each piece of work returns, without those that were refused; all refused is an error.

    An outage ends the work: it is nobody's fault in particular, and all of it is tried again.
    """
    done, refused = [], []
    for audited, piece in work:
        try:
            with audited:
                done.append(piece())
        except NightshiftError as error:
            if error.transient:
                raise
            refused.append(error)
    if refused and not done:
        raise refused[0]
    return done


def _loadable(site: Site, names: Iterable[str]) -> Iterator[ModelFamily]:
    """The families of these names whose folders load; the others' own runs tell what is wrong."""
    for name in names:
        try:
            yield site.family(name)
        except ConfigError:
            continue


def _cutoff(version: Version) -> datetime:
    return datetime.fromisoformat(version.manifest["cutoff"])


def _source(site: Site, family: ModelFamily) -> Database:
    name = family.source.connection
    if name not in site.sources:
        raise ConfigError(
            f"{family.family}: {family.folder / 'model.yaml'}: source.connection is {name!r}, and"
            f" there is no such connection (known: {listed(sorted(site.sources))});"
            f" set AIRFLOW_CONN_{name.upper()} or add it in Airflow"
        )
    return connect(site.sources[name], role=None, read_only=True)


def _store(site: Site) -> Store:
    return Store(site.store)


def _registry(site: Site) -> Registry:
    return Registry(_store(site), site.keys, site.models)
