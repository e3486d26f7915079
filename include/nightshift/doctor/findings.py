"""What an examination says, and the patient that it is about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from nightshift.data import Database, Store, connect
from nightshift.family import ModelFamily, load_families
from nightshift.site import Site
from nightshift.steps.frame import store_of

GIB = 1 << 30


@dataclass(frozen=True)
class Finding:
    """Something that is wrong: with what, how, and what to do. ``check`` is stable."""

    check: str
    subject: str
    sentence: str
    remedy: str


@dataclass(frozen=True)
class Limits:
    """From where on something counts as wrong.

    Parameters
    ----------
    free
        Bytes that must be free where we write.
    clock
        By how much this machine's clock and the database's may differ.
    patience
        How long work that did not end is left alone: longer than any run may take.
    idle
        How long a session may hold a transaction open and do nothing.
    connections
        The share of the server's connections that may be in use.
    """

    free: int = GIB
    clock: timedelta = timedelta(seconds=30)
    patience: timedelta = timedelta(days=1, hours=12)
    idle: timedelta = timedelta(hours=1)
    connections: float = 0.9


@dataclass(frozen=True)
class Patient:
    """An installation as it is examined at the present moment ``now`` (UTC).

    Parameters
    ----------
    metadata_url
        Airflow's own database, as a SQLAlchemy URL.
    """

    site: Site
    metadata_url: str
    limits: Limits
    now: datetime

    @property
    def database(self) -> Database:
        """The ``nightshift`` database, as its writer."""
        return connect(self.site.database_url)

    @property
    def server(self) -> Database:
        """The same, as who logs in: sees its own sessions, and all if it may."""
        return connect(self.site.database_url, role=None)

    @cached_property
    def store(self) -> Store:
        """Snapshots and artifacts."""
        return store_of(self.site)

    @cached_property
    def families(self) -> list[ModelFamily]:
        """The families whose folders load."""
        return load_families(self.site.models)[0]

    @property
    def long_ago(self) -> datetime:
        """What began before this moment should have ended."""
        return self.now - self.limits.patience
