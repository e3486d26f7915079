"""What only people decide: approvals, holds, exclusions, rollbacks, keys."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nightshift import local
from nightshift.cli.base import (
    AsJson,
    By,
    Family,
    Model,
    Reason,
    app,
    console,
    print_json,
    reading,
    say,
)
from nightshift.wording import moment

if TYPE_CHECKING:
    from nightshift.training import Exclusion

keys_app = typer.Typer(help="The keys that sign artifacts.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")

Approval = Annotated[int, typer.Argument(help="Its number: nightshift approvals lists them.")]


@app.command()
def exclude(
    family: Family,
    entity: Annotated[str, typer.Argument(help="Its entity_id.")],
    reason: Reason,
    erase: Annotated[bool, typer.Option("--erase", help="For good.")] = False,
    release: Annotated[bool, typer.Option("--release", help="Learn from it again.")] = False,
    by: By = None,
) -> None:
    """Let nothing learn from an entity any more; by default until it is released."""
    from nightshift.steps import people

    if erase and release:
        raise typer.BadParameter("--erase and --release contradict each other; write one of them")
    state: Exclusion = "erased" if erase else "released" if release else "quarantined"
    site, user = local.site(), by or getpass.getuser()
    count = people.exclude(
        site, family, entity, state, reason=reason, by=user, now=datetime.now(UTC)
    )
    say(f"{family}: {entity} is {state}; {count} labels of it are known")


@app.command()
def pseudonym(
    family: Family, entity: Annotated[str, typer.Argument(help="As the source names it.")]
) -> None:
    """What an entity is called in predictions, where pseudonymise hides its entity_id."""
    from nightshift.steps import people

    name = people.pseudonym(local.site(), family, entity)
    say(name)


@keys_app.command("list")
def list_keys() -> None:
    """The keys whose signatures are trusted, by id, and which of them signs."""
    from nightshift.data import Keys

    keys = Keys(local.site().keys)
    for name in keys.trusted():
        sentence = f"{name} signs" if name == keys.signs() else f"{name} signed before"
        say(sentence)


@keys_app.command()
def rotate(by: By = None) -> None:
    """Sign artifacts with a new key from now on; what was signed before still opens."""
    from nightshift.steps import people

    site, user = local.site(), by or getpass.getuser()
    rotation = people.rotate_keys(site, by=user, now=datetime.now(UTC))
    before = (
        f"{rotation.before} signed before and is trusted still"
        if rotation.before
        else "none before"
    )
    say(f"{rotation.after} signs from now on; {before}. Back up {site.keys}")


@app.command()
def hold(family: Family, reason: Reason, by: By = None) -> None:
    """Let no model of a family be retrained or replaced by itself, until it is released."""
    from nightshift.steps import people

    site, user = local.site(), by or getpass.getuser()
    held = people.hold(site, family, reason=reason, by=user, now=datetime.now(UTC))
    say(f"{family} is {held}")


@app.command()
def release(family: Family, reason: Reason, by: By = None) -> None:
    """Let the rules of a family that was held count again."""
    from nightshift.steps import people

    site, user = local.site(), by or getpass.getuser()
    ended = people.release(site, family, reason=reason, by=user, now=datetime.now(UTC))
    sentence = f"{family} is released; it was {ended}" if ended else f"{family} was not held"
    say(sentence)


@app.command()
def approvals(as_json: AsJson = False) -> None:
    """The challengers that wait for somebody's approval, the oldest first."""
    from nightshift import promotion, reports

    with reading().transaction() as tx:
        pending = promotion.pending(tx)
    if as_json:
        print_json([reports.as_data(approval) for approval in pending])
        return
    for approval in pending:
        say(
            f"{approval.approval_id}  {approval.subject}  since {moment(approval.asked_at)}",
            style="bold",
        )
        say(f"   {approval.headline}")
    if not pending:
        say("nothing waits for approval")


@app.command()
def approve(approval: Approval, reason: Reason, by: By = None) -> None:
    """Let a challenger serve, if the champion is still the one it was compared with."""
    _answer(approval, "approved", reason, by)


@app.command()
def decline(approval: Approval, reason: Reason, by: By = None) -> None:
    """Refuse a challenger; the champion serves on."""
    _answer(approval, "declined", reason, by)


@app.command()
def rollback(
    model: Model,
    reason: Reason,
    to: Annotated[
        int | None, typer.Option(help="A version's number; the champion before by default.")
    ] = None,
    rescore: Annotated[
        bool, typer.Option("--rescore", help="Score and publish anew what the bad version scored.")
    ] = False,
    by: By = None,
) -> None:
    """Let an earlier champion serve again from now on, without training."""
    from nightshift import registry, reports
    from nightshift.steps.rollback import Undo
    from nightshift.steps.rollback import rescore as rollback_rescore
    from nightshift.steps.rollback import rollback as rollback_rollback

    site, now = local.site(), datetime.now(UTC)
    with reading().transaction() as tx:
        row = reports.find_model(tx, model)
    decision_id = rollback_rollback(
        site,
        row.family,
        undo=Undo(row.model, to, rescore=rescore),
        reason=reason,
        by=by or getpass.getuser(),
        as_of=now,
        now=now,
    )
    with reading().transaction() as tx:
        latest = registry.promotions(tx, row.model_id)[-1]
    say(
        f"{row.family}/{row.model}: version {latest.number} serves from"
        f" {moment(latest.effective_from)} on (decision {decision_id})"
    )
    if rescore:
        with console.status(f"{row.family}: scoring nights anew"):
            nights = rollback_rescore(site, decision_id, now=datetime.now(UTC))
        say(f"{len(nights)} nights were scored anew")


def _answer(
    approval_id: int, answer: Literal["approved", "declined"], reason: str, by: str | None
) -> None:
    from nightshift import registry
    from nightshift.data import connect
    from nightshift.steps import people

    site, user = local.site(), by or getpass.getuser()
    decision_id = people.answer(
        site, approval_id, answer, user, reason=reason, now=datetime.now(UTC)
    )
    with connect(site.database_url).transaction() as tx:
        decision = registry.decision(tx, decision_id)
    sentence = f"{decision.kind}: {decision.reason}"
    say(sentence)
    if decision.rule != answer:  # somebody, or something, was faster
        raise typer.Exit(1)
