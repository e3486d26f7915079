"""Why there is too little to learn from: each cause with its own sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from nightshift.family import ModelFamily


@dataclass(frozen=True)
class Shortage:
    """What a training could not use of its nights and labels.

    Parameters
    ----------
    accepted, rejected, absent
        Nights: with a snapshot that may be used, with one that validation refused, with none.
    unlike
        Nights frozen without a column that the family declares now, and which those are.
    labels
        Labels that were known in time; ``answering`` those of an entity of an accepted night.
    early
        Rows whose truth was stated by their own night already.
    incomplete
        Nights of which fewer labels are known than ``labels.min_coverage`` asks for.
    """

    accepted: Sequence[datetime] = ()
    rejected: Sequence[datetime] = ()
    absent: Sequence[datetime] = ()
    unlike: Sequence[datetime] = ()
    columns: tuple[str, ...] = ()
    labels: int = 0
    answering: int = 0
    early: int = 0
    examples: tuple[str, str] | None = None
    incomplete: Sequence[datetime] = ()

    def within(self, after: datetime | None, until: datetime | None) -> Shortage:
        """The same of the nights later than one moment and up to another; of labels as it is."""
        return self.of(
            lambda night: (after is None or night > after) and (until is None or night <= until)
        )

    def of(self, chosen: Callable[[datetime], bool]) -> Shortage:
        """The same of the nights for which ``chosen`` is true; of labels as it is."""
        return replace(
            self,
            accepted=list(filter(chosen, self.accepted)),
            rejected=list(filter(chosen, self.rejected)),
            absent=list(filter(chosen, self.absent)),
            unlike=list(filter(chosen, self.unlike)),
            incomplete=list(filter(chosen, self.incomplete)),
        )

    def sentences(self, family: ModelFamily) -> Iterator[str]:
        """What is to be done, the causes that are there."""
        if self.rejected:
            yield (
                f"{_nights(self.rejected)} rejected by validation and cannot be learnt from: mend"
                " the source or the expectations, and train again, which judges them again"
            )
        if self.absent:
            mutable = family.source.history == "mutable"
            yield f"{_nights(self.absent)} never frozen" + (
                ", and cannot be any more, for source.history is mutable: wait until enough nights"
                " are there, or say append_only where the source keeps its history with known_at"
                if mutable
                else ""
            )
        if self.unlike:
            yield (
                f"{_nights(self.unlike)} frozen without what model.yaml declares now"
                f" ({'; '.join(self.columns)})"
                + (
                    ": wait for nights that have it"
                    if family.source.history == "mutable"
                    else ", and the source does not give it for them"
                )
            )
        if self.accepted and not self.labels:
            yield (
                "labels.sql gave no label for these nights that was known in time: look at"
                f" `nightshift labels {family.family}`, or widen retrain.training.window"
            )
        if self.accepted and self.labels and not self.answering:
            examples = (
                f" (labels say {self.examples[0]!r}, features say {self.examples[1]!r})"
                if self.examples and not family.discreet
                else ""
            )
            yield (
                f"none of {self.labels:,} labels answers an entity of these nights: labels.sql and"
                f" features.sql must agree on entity_id{examples}"
            )
        if self.incomplete and self.answering:
            yield (
                f"{_nights(self.incomplete)} left out, for fewer of their rows have labels than"
                f" labels.min_coverage asks for ({family.labels.min_coverage:.0%}): wait for these,"
                f" or lengthen labels.maturity (`nightshift labels {family.family}` tells how fast"
                " labels come), or lower labels.min_coverage where the others never come"
            )
        if self.early:
            yield (
                f"{self.early:,} rows have a truth that was known by their own night, and who knows"
                " a truth does not predict it: features.sql must return entities before their"
                " labels are known, and known_at must say when that was"
            )


def _nights(nights: Sequence[datetime]) -> str:
    count = len(nights)
    return f"{count:,} {'night was' if count == 1 else 'nights were'}"
