"""Nights by hand, as the DAGs live through them, and past ones under several policies."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError
from rich.table import Table

from nightshift import local, wording
from nightshift.cli.base import (
    AsJson,
    AsOf,
    Family,
    app,
    conclude,
    console,
    day_of,
    moment_of,
    say,
    stop,
    whole_days,
)
from nightshift.site import Site


@app.command()
def train(
    family: Family,
    as_of: AsOf = None,
    reason: str = "trained by hand",
    model: Annotated[
        list[str] | None, typer.Option(help="Which models of a factory; all by default.")
    ] = None,
) -> None:
    """Train challengers and let them prove themselves; first versions are promoted unopposed."""
    from nightshift.steps import retrain

    site, now = local.site(), datetime.now(UTC)
    moment = moment_of(as_of) or site.family(family).previous_tick(now)
    with console.status(f"{family}: freezing what is missing"):
        decision_ids = retrain.request_retrain(
            site, family, moment, reason=reason, by="cli", now=now, members=model
        )
    with console.status(f"{family}: fitting {wording.count(len(decision_ids), 'model')}"):
        versions = retrain.fit(site, decision_ids, now=now)
    with console.status(f"{family}: comparing with the champions"):
        concluded = retrain.conclude(site, retrain.compare(site, versions, now=now), now=now)
    _print_decisions(site, concluded, requested=len(decision_ids))


@app.command()
def replay(family: Family, as_of: AsOf = None, as_json: AsJson = False) -> None:
    """Score a published night again, as it was scored; exit code 1 where a bit is not the same."""
    from nightshift.steps import night as night_steps

    site, now = local.site(), datetime.now(UTC)
    moment = moment_of(as_of) or site.family(family).previous_tick(now)
    report = night_steps.replay(site, family, moment)
    conclude(report, holds=report.same, as_json=as_json)


@app.command()
def lake(
    family: Family,
    as_of: AsOf = None,
    since: Annotated[
        str | None, typer.Option(help="A day, 2026-11-03: every published night from then on.")
    ] = None,
) -> None:
    """Write published nights into the lake that include/nightshift.yaml names, as Parquet files."""
    from nightshift.steps import night as night_steps

    site, now = local.site(), datetime.now(UTC)
    moment = moment_of(as_of) or site.family(family).previous_tick(now)
    first = None if since is None else day_of(since, "--since")
    nights = [moment] if first is None else night_steps.published(site, family, first, moment)
    rows = sum(night_steps.export(site, family, night, now=now) for night in nights)
    say(
        f"{family}: {wording.count(len(nights), 'night')} with {wording.count(rows, 'row')} written"
        " into the lake"
    )


@app.command()
def score(family: Family, as_of: AsOf = None) -> None:
    """Freeze, validate, score and publish one night, as the score DAG does."""
    from nightshift.steps import night as night_steps
    from nightshift.steps import replacing

    site, now = local.site(), datetime.now(UTC)
    moment = moment_of(as_of) or site.family(family).previous_tick(now)
    with console.status(f"{family}: scoring {wording.moment(moment)}"):
        snapshot_id = night_steps.freeze(site, family, moment, now=now)
        night_steps.validate(site, snapshot_id, now=now)
        replacing.replace_outgrown(site, snapshot_id, now=now)
        batch = night_steps.publish(site, night_steps.score(site, snapshot_id, now=now), now=now)
        if site.settings.lake_of(family):
            night_steps.export(site, family, moment, now=now)
    night = wording.moment(datetime.fromisoformat(batch["as_of"]))
    say(
        f"{family} {night}: {wording.count(batch['rows'], 'row')} published,"
        f" batch {batch['batch_id']}, version {wording.listed(batch['versions'])}"
    )


@app.command()
def simulate(
    family: Family,
    start: Annotated[
        str,
        typer.Option("--from", help="The first night, 2026-03-14, or how long before --to: P290D."),
    ],
    end: Annotated[
        str | None, typer.Option("--to", help="The last night; last night if left out.")
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help="never, as-configured, weekly, always; weekly by default in a factory only."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the CSV and the plot go.")] = Path(
        "build/simulate"
    ),
) -> None:
    """Live through past nights under each policy, each in a database of its own, side by side."""
    from nightshift import simulation

    site = local.site()
    policies = _policies(policy) or simulation.default_policies(site.family(family))
    last = day_of(end, "--to") if end else site.family(family).previous_tick(datetime.now(UTC))
    first = last - _duration(start) if start.startswith("P") else day_of(start, "--from")
    # Whoever stops the command stops its workers, too, and leaves no database behind.
    signal.signal(signal.SIGTERM, stop)
    with local.Bars(console, ("snapshots", *policies)) as bars:
        outcomes = simulation.simulate(
            site,
            family,
            *whole_days(first, last),
            policies,
            folder=site.state / "simulations" / family,
            make_database=lambda name, template: local.fresh_database(site, name, template),
            drop_database=lambda name: local.drop_database(site, name),
            progress=bars,
        )
    _print_simulation(site, family, outcomes, out)


def _policies(names: list[str] | None) -> list:  # type: ignore[type-arg]
    from nightshift.simulation import POLICIES

    unknown = sorted(set(names or []) - set(POLICIES))
    if unknown:
        raise typer.BadParameter(
            f"--policy: {wording.listed(unknown)} is not known;"
            f" accepted: {wording.listed(POLICIES)}"
        )
    return [policy for policy in POLICIES if policy in names] if names else []


def _print_decisions(site: Site, decision_ids: list[int], *, requested: int) -> None:
    from nightshift import registry
    from nightshift.data import connect

    with connect(site.database_url).transaction() as tx:
        decisions = [registry.decision(tx, decision_id) for decision_id in decision_ids]
        names = {d.model_id: registry.model_of(tx, d.model_id).name for d in decisions}
    for decision in decisions:
        say(f"{names[decision.model_id]}: {decision.kind}: {decision.reason}")
    if requested > len(decisions):
        say(
            f"{requested - len(decisions)} of {requested} models could not be trained; the"
            " audit trail (nightshift.events) says why"
        )


def _print_simulation(site: Site, name: str, outcomes: list, out: Path) -> None:  # type: ignore[type-arg]
    import pandas as pd

    from nightshift import reports, simulation

    family = site.family(name)
    gauge = family.performance.gauge()
    table = Table(title=f"{name}: {gauge.name} over every labelled prediction")
    for heading in ("policy", gauge.name, "fits", "breaches", "promotions", "nights", "rejected"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    for o in outcomes:
        table.add_row(
            o.policy,
            f"{gauge.shown(o.value):,.3f}",
            str(o.fits),
            str(o.breaches),
            str(o.promotions),
            str(len(o.nights)),
            str(o.rejected),
        )
    console.print(table)
    won = simulation.won_back(outcomes)
    if won is not None:
        fits = {outcome.policy: outcome.fits for outcome in outcomes}
        say(
            f"as-configured wins back {won[0]:.0%} of what {won[1]} wins over never, with"
            f" {fits['as-configured'] / fits[won[1]]:.0%} of its fits"
        )
    out.mkdir(parents=True, exist_ok=True)
    frame = pd.concat([o.nights.assign(policy=o.policy) for o in outcomes])
    frame.to_csv(out / f"{name}.csv", index=False)
    reports.plot_policies(family, outcomes, out / f"{name}.png")
    say(f"by night: {out / f'{name}.csv'}, {out / f'{name}.png'}")


def _duration(text: str) -> timedelta:
    try:
        return TypeAdapter(timedelta).validate_python(text)
    except ValidationError:
        raise typer.BadParameter(f"--from: {text!r} is no ISO 8601 duration; write P290D") from None
