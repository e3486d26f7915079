"""What goes wrong, in our own nouns: each error says what happened, where, and what to do.

The exception tree::

    NightshiftError
      ConfigError           a family's folder is wrong: fix the file that the message names
      SetupError            this machine is not ready: a port, a package, a server
      SourceError           a query on a source failed or returned the wrong shape
      SnapshotError         a snapshot cannot be taken, or is not what was registered
        SnapshotRejected    validation refused it: the previous batch is still served
      ScoringError          a champion could not score a snapshot: nothing was published
        RowsRefused         posted rows are not what the family scores: mend the rows
      LabelsError           labels are missing or contradict their contract
      TrainingError         a challenger could not be trained: the champion serves on
      RegistryError         a version, artifact or promotion is not in order
        NoChampion          nothing has been promoted for this model at that moment
        LibrariesDiffer     a version was trained with other libraries: train it anew
        ArtifactRefused     the bytes are not those that were signed
        PromotionLost       another promotion came first: look at it before trying again
      InternalError         nobody foresaw this: the full trace says where
      RowsRetired           predictions that a figure needs were dropped by keep_predictions
      StorageError          the store refused: a full disk, a bucket or a right that is missing
        StorageUnavailable  object storage cannot be reached: try again
      DatabaseError         Postgres refused a statement
        DatabaseUnavailable Postgres cannot be reached or asks to retry: try again
        ConnectionFault     a setting of the connection is wrong: mend the connection
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from nightshift.wording import listed

WITHHELD = "its words are withheld, because model.yaml protects data of this family"
"""Said instead of a foreign error's message, which may repeat values."""


FOREIGN = (Exception, SystemExit)
"""What code of others may raise where it is called: `sys.exit()` in it must not end us unheard."""


def words_of(error: BaseException, *, discreet: bool) -> str:
    """A foreign error as we tell it: its kind, and what it says where that may be repeated."""
    kind = type(error).__name__
    return f"{kind} ({WITHHELD})" if discreet else f"{kind}: {error}"


class NightshiftError(Exception):
    """What went wrong, where, and what to do. ``code`` is stable and stored in the audit trail."""

    code: ClassVar[str] = "error"
    transient: ClassVar[bool] = False


class ConfigError(NightshiftError):
    """A family's folder is wrong. Fix the file that the message names."""

    code = "config"


class SetupError(NightshiftError):
    """This machine is not ready. The message says what is missing."""

    code = "setup"


def extra_missing(purpose: str, package: str | None, extra: str, instead: str = "") -> SetupError:
    """What ``purpose`` needs, how to install it, and what would do instead."""
    return SetupError(
        f"{purpose} needs the package {package}, which is not installed:"
        f" pip install 'nightshift[{extra}]'{instead}"
    )


class SourceError(NightshiftError):
    """A query on a source failed or returned the wrong shape. Fix the query or the source."""

    code = "source"


class SnapshotError(NightshiftError):
    """A snapshot cannot be taken, or its file is not what was registered."""

    code = "snapshot"


class SnapshotRejected(SnapshotError):
    """Validation refused the snapshot. The previous batch is still served."""

    code = "snapshot_rejected"


class ScoringError(NightshiftError):
    """A champion could not score a snapshot. Nothing of this batch was published."""

    code = "scoring"


class InternalError(NightshiftError):
    """Something happened that no refusal foresees: a fault of ours, or of code that we call.

    A note says in which line it happened. The exception itself is the ``__cause__``, where its
    words may be repeated.
    """

    code = "internal"


class RowsRetired(NightshiftError):
    """Predictions of these nights were dropped, so no figure over them can be right."""

    code = "rows_retired"


@dataclass(frozen=True)
class RowProblem:
    """What is wrong with a column of posted rows, and in which rows, counted from 0."""

    column: str
    rows: tuple[int, ...]
    message: str

    def __str__(self) -> str:
        which = "row" if len(self.rows) == 1 else "rows"
        return f"column {self.column!r} {self.message} ({which} {listed(self.rows, most=5)})"


class RowsRefused(ScoringError):
    """Posted rows are not what the family scores. ``problems`` says what to mend."""

    code = "rows_refused"

    def __init__(self, family: str, problems: Sequence[RowProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__(f"{family}: no row was scored: {'; '.join(map(str, problems))}")


class LabelsError(NightshiftError):
    """Labels are missing or break their contract."""

    code = "labels"


class TrainingError(NightshiftError):
    """A challenger could not be trained or compared. The champion serves on."""

    code = "training"


class RegistryError(NightshiftError):
    """A version, an artifact or a promotion is not in order."""

    code = "registry"


class NoChampion(RegistryError):
    """Nothing has been promoted for this model at that moment. Train a first version."""

    code = "no_champion"


class ArtifactRefused(RegistryError):
    """An artifact's bytes are not those that were signed. It was not opened."""

    code = "artifact_refused"


class LibrariesDiffer(RegistryError):
    """A version was trained with other libraries than its family allows. It was not opened."""

    code = "libraries_differ"


class PromotionLost(RegistryError):
    """Another promotion of this model came first. Look at it before trying again."""

    code = "promotion_lost"


class StorageError(NightshiftError):
    """The store refused. Mend what the message names; nothing half-written is left."""

    code = "storage"


class StorageUnavailable(StorageError):
    """Object storage cannot be reached. Run the step again: what was stored is whole."""

    code = "storage_unavailable"
    transient = True


class DatabaseError(NightshiftError):
    """Postgres refused a statement. ``sqlstate`` is its own code for why, where it gave one."""

    code = "database"
    sqlstate: str | None = None


class DatabaseUnavailable(DatabaseError):
    """Postgres cannot be reached, or asks to try again. Run the step again; it may be done."""

    code = "database_unavailable"
    transient = True


class ConnectionFault(DatabaseError):
    """Postgres cannot be entered as the connection says. Mend its setting that is named."""

    code = "connection"
