"""``nightshift``: the same steps that Airflow runs, by hand, and the demonstration."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from nightshift import local
from nightshift.errors import NightshiftError
from nightshift.site import Site

if TYPE_CHECKING:
    from nightshift.data import Database
    from nightshift.reports import Line
    from nightshift.steps.checking import Finding
    from nightshift.training import Exclusion

app = typer.Typer(
    help="Scores every row, every night; measures when the truth arrives; replaces on proof.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
audit_app = typer.Typer(help="The audit trail of decisions.", no_args_is_help=True)
app.add_typer(audit_app, name="audit")
keys_app = typer.Typer(help="The keys that sign artifacts.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")
demo_app = typer.Typer(help="Load the flights, live through 190 nights, run one cycle in Airflow.")
app.add_typer(demo_app, name="demo")
console = Console()

Family = Annotated[str, typer.Argument(help="The family, as its folder is named.")]
AsOf = Annotated[
    str | None,
    typer.Option(help="A moment with its offset, 2026-11-03T02:00Z; the latest tick by default."),
]
AsJson = Annotated[bool, typer.Option("--json", help="The same as JSON, for programs.")]
Approval = Annotated[int, typer.Argument(help="Its number: nightshift approvals lists them.")]
Reason = Annotated[str, typer.Option(help="Why; it is recorded with your name.")]
By = Annotated[str | None, typer.Option(help="Who says so; you, as logged in, by default.")]


def main() -> None:
    """Run a command; our own errors end as one message and exit code 1."""
    try:
        app()
    except NightshiftError as error:
        told = Text.assemble(("error", "red"), f" [{error.code}] {error}")
        Console(stderr=True).print(told, soft_wrap=True)
        sys.exit(1)


@app.command()
def up(
    airflow: Annotated[bool, typer.Option(help="Start Airflow as well as the databases.")] = True,
) -> None:
    """Start the embedded Postgres and Airflow; what runs already is left alone."""
    local.up(local.site(), airflow=airflow, console=console)


@app.command()
def down() -> None:
    """Stop what `up` started, and nothing else. The data stays."""
    local.down(local.site(), console=console)


@app.command()
def prepare() -> None:
    """Migrate both databases and import the pools, for a deployment that runs Airflow itself."""
    local.prepare(local.site(), console=console)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def airflow(context: typer.Context) -> None:
    """Airflow's own command line, in this installation: nightshift airflow dags list."""
    sys.exit(local.airflow(local.site(), context.args))


@app.command()
def check(
    families: Annotated[
        list[str] | None, typer.Argument(help="Whose source is asked; of every family by default.")
    ] = None,
    source: Annotated[
        bool, typer.Option("--source", help="Ask the sources too: columns, rows, keys, labels.")
    ] = False,
) -> None:
    """List every problem of every family."""
    from nightshift.steps import checking, upkeep

    site = local.site()
    if families and not source:
        raise typer.BadParameter("families are named for --source only; without it all are checked")
    problems = upkeep.check(site)
    for problem in problems:
        console.print(str(problem), highlight=False, soft_wrap=True, markup=False)
    findings = []
    if source:
        names = families or checking.loadable(site)
        findings = checking.check_source(site, names, now=datetime.now(UTC))
        _print_findings(findings)
    if problems or any(finding.problem for finding in findings):
        raise typer.Exit(1)
    console.print("every family is in order")


def _print_findings(findings: Sequence[Finding]) -> None:
    table = Table("", "family", "about", "what the source says")
    for finding in findings:
        mark = Text("mend", "red") if finding.problem else Text("ok", "green")
        table.add_row(mark, *map(Text, (finding.family, finding.subject, finding.sentence)))
    console.print(table)


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
    moment = _moment(as_of) or site.family(family).previous_tick(now)
    with console.status(f"{family}: freezing what is missing"):
        asked = retrain.request_retrain(
            site, family, moment, reason=reason, by="cli", now=now, members=model
        )
    with console.status(f"{family}: fitting {len(asked)} models"):
        versions = retrain.fit(site, asked, now=now)
    with console.status(f"{family}: comparing with the champions"):
        concluded = retrain.conclude(site, retrain.compare(site, versions, now=now), now=now)
    _tell_decisions(site, concluded, asked=len(asked))


@app.command()
def score(family: Family, as_of: AsOf = None) -> None:
    """Freeze, validate, score and publish one night, as the score DAG does."""
    from nightshift.steps import night as night_steps

    site, now = local.site(), datetime.now(UTC)
    moment = _moment(as_of) or site.family(family).previous_tick(now)
    with console.status(f"{family}: scoring {moment:%Y-%m-%d %H:%M}Z"):
        snapshot_id = night_steps.freeze(site, family, moment, now=now)
        night_steps.validate(site, snapshot_id, now=now)
        shown = night_steps.publish(site, night_steps.score(site, snapshot_id, now=now), now=now)
    console.print(
        f"{family} {shown['as_of']}: {shown['rows']} rows published, batch {shown['batch_id']},"
        f" version {', '.join(map(str, shown['versions']))}",
        highlight=False,
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
    last = _day(end, "--to") if end else site.family(family).previous_tick(datetime.now(UTC))
    first = last - _duration(start) if start.startswith("P") else _day(start, "--from")
    nights = _midnight(first), _midnight(last) + timedelta(days=1) - timedelta(seconds=1)
    expected = len(list(site.family(family).ticks(nights[0] - timedelta(seconds=1), nights[1])))
    with _progress() as bars:
        tasks = {name: bars.add_task(name, total=None) for name in ("snapshots", *policies)}

        def tell(name: str, night: datetime) -> None:
            total = None if name == "snapshots" else expected
            bars.update(tasks[name], advance=1, total=total, description=f"{name} {night:%Y-%m-%d}")

        outcomes = simulation.simulate(
            site,
            family,
            *nights,
            policies,
            folder=site.state / "simulations" / family,
            make_database=lambda name, template: local.fresh_database(site, name, template),
            progress=tell,
        )
    _tell_simulation(site, family, outcomes, out)


@app.command()
def status(
    family: Annotated[str | None, typer.Argument(help="One family; all by default.")] = None,
    state: Annotated[str | None, typer.Option(help="Only models in this state.")] = None,
    rows: Annotated[int, typer.Option(help="How many models to show, the worst first.")] = 40,
    as_json: AsJson = False,
) -> None:
    """The fleet at a glance: each model, its champion, its last metric, its last decision."""
    from nightshift import reports

    if state is not None and state not in reports.HEALTHS:
        raise typer.BadParameter(f"--state: {state!r} is none of {', '.join(reports.HEALTHS)}")
    found = reports.status(_reading(), family)
    lines = [line for line in found.lines if state in (None, line.health)]
    if as_json:
        _print_json(reports.as_data(replace(found, lines=tuple(lines))))
        return
    for sentence in found.sentences:
        console.print(sentence, highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("model", "state", "version", "value", "threshold", "last decision"):
        right = heading in ("version", "value", "threshold")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for line in lines[:rows]:
        table.add_row(*map(escape, _cells(line)))
    console.print(table)
    if len(lines) > rows:
        left = len(lines) - rows
        console.print(f"and {left:,} more; --rows {len(lines)} shows all", highlight=False)


@app.command()
def why(
    model: Annotated[str, typer.Argument(help="A model, or family/model.")],
    on: Annotated[
        str | None, typer.Option(help="A day (2026-11-03) or a moment; now by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """How the last decision about a model came about, from labels to what followed."""
    from nightshift import reports

    found = reports.why(_reading(), model, _until(on))
    if as_json:
        _print_json(reports.as_data(found))
        return
    console.print(
        f"{found.family}/{found.model} at {found.as_of:%Y-%m-%d %H:%M}Z: {found.decision}",
        style="bold", highlight=False, markup=False,
    )  # fmt: skip
    for sentence in found.sentences:
        console.print(f"- {sentence}", highlight=False, soft_wrap=True, markup=False)


@app.command()
def history(
    model: Annotated[str, typer.Argument(help="A model, or family/model.")], as_json: AsJson = False
) -> None:
    """Everything that was decided about a model since its beginning."""
    from nightshift import reports

    found = reports.history(_reading(), model)
    if as_json:
        _print_json(reports.as_data(found))
        return
    for event in found.events:
        console.print(
            f"{event.as_of:%Y-%m-%d %H:%M}Z  {event.kind:<8} {event.sentence}",
            highlight=False, soft_wrap=True, markup=False,
        )  # fmt: skip


@app.command()
def reproduce(
    model: Annotated[str, typer.Argument(help="A model, or family/model.")],
    version: Annotated[int | None, typer.Option(help="Its number; the latest by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train a version again from its manifest; exit code 1 where its bytes are not the same."""
    from nightshift import reports
    from nightshift.steps import versions as versions_steps

    with _reading().transaction() as tx:
        model_id = reports.find_model(tx, model).model_id
    found = versions_steps.reproduce(local.site(), model_id, version)
    if as_json:
        _print_json(reports.as_data(found))
    else:
        console.print(found.sentence, highlight=False, soft_wrap=True, markup=False)
    if not found.same:
        raise typer.Exit(1)


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="A model, or family/model.")],
    onnx: Annotated[Path, typer.Option(help="The file to write.")],
    version: Annotated[int | None, typer.Option(help="Its number; the latest by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a version as ONNX and compare it on its holdout; exit code 1 where they disagree."""
    from nightshift import reports
    from nightshift.steps import versions as versions_steps

    with _reading().transaction() as tx:
        model_id = reports.find_model(tx, model).model_id
    now = datetime.now(UTC)
    found = versions_steps.export_onnx(local.site(), model_id, onnx, now=now, number=version)
    if as_json:
        _print_json(reports.as_data(found))
    else:
        console.print(found.sentence, highlight=False, soft_wrap=True, markup=False)
    if not found.agrees:
        raise typer.Exit(1)


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
    site, who = local.site(), by or getpass.getuser()
    count = people.exclude(
        site, family, entity, state, reason=reason, by=who, now=datetime.now(UTC)
    )
    console.print(
        f"{family}: {entity} is {state}; {count} labels of it are known",
        highlight=False, soft_wrap=True, markup=False,
    )  # fmt: skip


@app.command()
def pseudonym(
    family: Family, entity: Annotated[str, typer.Argument(help="As the source names it.")]
) -> None:
    """What an entity is called in predictions, where pseudonymise hides its entity_id."""
    from nightshift.steps import people

    told = people.pseudonym(local.site(), family, entity)
    console.print(told, highlight=False, soft_wrap=True, markup=False)


@keys_app.command("list")
def list_keys() -> None:
    """The keys whose signatures are trusted, by id, and which of them signs."""
    from nightshift.data import Keys

    keys = Keys(local.site().keys)
    for name in keys.trusted():
        told = f"{name} signs" if name == keys.signs() else f"{name} signed before"
        console.print(told, highlight=False)


@keys_app.command()
def rotate(by: By = None) -> None:
    """Sign artifacts with a new key from now on; what was signed before still opens."""
    from nightshift.steps import people

    site, who = local.site(), by or getpass.getuser()
    done = people.rotate_keys(site, by=who, now=datetime.now(UTC))
    before = f"{done.before} signed before and is trusted still" if done.before else "none before"
    console.print(
        f"{done.after} signs from now on; {before}. Back up {site.keys}",
        highlight=False, soft_wrap=True, markup=False,
    )  # fmt: skip


@app.command()
def hold(family: Family, reason: Reason, by: By = None) -> None:
    """Let no model of a family be retrained or replaced by itself, until it is released."""
    from nightshift.steps import people

    site, who = local.site(), by or getpass.getuser()
    held = people.hold(site, family, reason=reason, by=who, now=datetime.now(UTC))
    console.print(f"{family} is {held}", highlight=False, soft_wrap=True, markup=False)


@app.command()
def release(family: Family, reason: Reason, by: By = None) -> None:
    """Let the rules of a family that was held count again."""
    from nightshift.steps import people

    site, who = local.site(), by or getpass.getuser()
    ended = people.release(site, family, reason=reason, by=who, now=datetime.now(UTC))
    told = f"{family} is released; it was {ended}" if ended else f"{family} was not held"
    console.print(told, highlight=False, soft_wrap=True, markup=False)


@app.command()
def approvals(as_json: AsJson = False) -> None:
    """The challengers that wait for somebody's approval, the oldest first."""
    from nightshift import promotion, reports

    with _reading().transaction() as tx:
        found = promotion.pending(tx)
    if as_json:
        _print_json([reports.as_data(one) for one in found])
        return
    for one in found:
        console.print(
            f"{one.approval_id}  {one.subject}  since {one.asked_at:%Y-%m-%d %H:%M}Z",
            style="bold", highlight=False, soft_wrap=True, markup=False,
        )  # fmt: skip
        console.print(f"   {one.headline}", highlight=False, soft_wrap=True, markup=False)
    if not found:
        console.print("nothing waits for approval")


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
    model: Annotated[str, typer.Argument(help="A model, or family/model.")],
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
    from nightshift.steps.rollback import rescore as rollback_rescore
    from nightshift.steps.rollback import rollback as rollback_rollback

    site, now = local.site(), datetime.now(UTC)
    with _reading().transaction() as tx:
        found = reports.find_model(tx, model)
    decision_id = rollback_rollback(
        site, found.family, model=found.model, to=to, reason=reason, rescore=rescore,
        by=by or getpass.getuser(), as_of=now, now=now,
    )  # fmt: skip
    with _reading().transaction() as tx:
        latest = registry.promotions(tx, found.model_id)[-1]
    console.print(
        f"{found.family}/{found.model}: version {latest.number} serves from"
        f" {latest.effective_from:%Y-%m-%d %H:%M}Z on (decision {decision_id})",
        highlight=False, soft_wrap=True, markup=False,
    )  # fmt: skip
    if rescore:
        with console.status(f"{found.family}: scoring nights anew"):
            nights = rollback_rescore(site, decision_id, now=datetime.now(UTC))
        console.print(f"{len(nights)} nights were scored anew", highlight=False)


@app.command("labels")
def label_arrivals(
    family: Family,
    as_of: AsOf = None,
    out: Annotated[Path, typer.Option(help="Where the plot goes.")] = Path("build/labels"),
    as_json: AsJson = False,
) -> None:
    """How fast labels arrive after a night, and the maturity that follows."""
    from nightshift import monitoring, reports

    told, moment = local.site().family(family), _moment(as_of) or datetime.now(UTC)
    found = monitoring.arrivals(_reading(), told, moment)
    file = out / f"{family}.png"
    monitoring.plot(found, told, file)
    if as_json:
        _print_json(reports.as_data(found))
        return
    console.print(f"{family}: the share of predictions whose label is known", highlight=False)
    table = Table()
    for heading in ("days after", "known", "nights", "predictions"):
        table.add_column(heading, justify="right")
    for row in found.rows:
        share = "-" if row.share is None else f"{row.share:.1%}"
        table.add_row(str(row.days), share, str(row.nights), f"{row.predictions:,}")
    console.print(table)
    console.print(found.sentence, highlight=False, soft_wrap=True)
    console.print(f"plot: {file}", highlight=False)


@audit_app.command()
def verify(
    head: Annotated[
        str | None, typer.Option(help="A hash that this command printed before.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Recompute the chain of decisions: nothing was changed, left out or cut off."""
    from nightshift import reports

    found = reports.audit(_reading(), head)
    if as_json:
        _print_json(reports.as_data(found))
    else:
        for fault in found.faults:
            console.print(fault, highlight=False, soft_wrap=True)
        verdict = "the chain is broken" if found.faults else "the chain is whole"
        console.print(
            f"{found.decisions:,} decisions: {verdict}; its head is {found.head or 'empty'}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    if found.faults:
        raise typer.Exit(1)


@demo_app.command("load")
def demo_load() -> None:
    """Fill the warehouse with the flights of 2013, moved to end last night."""
    from nightshift import demo

    site = local.site()
    with console.status("flights"):
        report = demo.load(local.warehouse_url(site), today=_today(), progress=console.print)
    console.print(str(report), highlight=False)


@demo_app.callback(invoke_without_command=True)
def demo_all(context: typer.Context) -> None:
    """Load the flights, live through 190 nights, start Airflow, run one cycle by its scheduler."""
    if context.invoked_subcommand is None:
        from nightshift import demo

        demo.run(local.site(), now=datetime.now(UTC), console=console)


def _answer(
    approval_id: int, said: Literal["approved", "declined"], reason: str, by: str | None
) -> None:
    from nightshift import registry
    from nightshift.data import connect
    from nightshift.steps import people

    site, who = local.site(), by or getpass.getuser()
    decision_id = people.answer(site, approval_id, said, who, reason=reason, now=datetime.now(UTC))
    with connect(site.database_url).transaction() as tx:
        decision = registry.decision(tx, decision_id)
    told = f"{decision.kind}: {decision.reason}"
    console.print(told, highlight=False, soft_wrap=True, markup=False)
    if decision.rule != said:  # somebody, or something, was faster
        raise typer.Exit(1)


def _reading() -> Database:
    """The database of this installation, which reports read."""
    from nightshift.data import connect

    return connect(local.site().database_url)


def _print_json(data: object) -> None:
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def _cells(line: Line) -> tuple[str, ...]:
    name = line.family if line.model == line.family else f"{line.family}/{line.model}"
    value = "-" if line.value is None else f"{line.value:.4g}"
    if line.low is not None and line.high is not None:
        value += f" ({line.low:.4g} to {line.high:.4g})"
    decided = (
        f"{line.decided_as_of:%m-%d} {line.decision}: {line.rule}" if line.decided_as_of else "-"
    )
    return (
        name, line.health, _versions(line), value,
        "-" if line.threshold is None else f"{line.threshold:.4g}", decided,
    )  # fmt: skip


def _versions(line: Line) -> str:
    serving = "-" if line.version is None else str(line.version)
    return f"{serving}, {line.shadow} in shadow" if line.shadow else serving


def _until(on: str | None) -> datetime:
    """The end of a day, or a moment; now where nothing is said."""
    if on is None:
        return datetime.now(UTC)
    if len(on) == len("2026-11-03"):
        return _day(on, "--on") + timedelta(days=1) - timedelta(microseconds=1)
    moment = _moment(on)
    assert moment is not None
    return moment


def _today() -> date:
    return datetime.now(UTC).date()


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no moment; write 2026-11-03T02:00Z") from None
    if moment.tzinfo is None:
        raise typer.BadParameter(f"{text!r} could be any time zone's; write 2026-11-03T02:00Z")
    return moment.astimezone(UTC)


def _day(text: str, option: str) -> datetime:
    try:
        return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
    except ValueError:
        raise typer.BadParameter(f"{option}: {text!r} is no date; write 2026-03-14") from None


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _duration(text: str) -> timedelta:
    try:
        return TypeAdapter(timedelta).validate_python(text)
    except ValidationError:
        raise typer.BadParameter(f"--from: {text!r} is no ISO 8601 duration; write P290D") from None


def _policies(given: list[str] | None) -> list:  # type: ignore[type-arg]
    from nightshift.simulation import POLICIES

    unknown = sorted(set(given or []) - set(POLICIES))
    if unknown:
        raise typer.BadParameter(
            f"--policy: {', '.join(unknown)} is not known; accepted: {', '.join(POLICIES)}"
        )
    return [policy for policy in POLICIES if policy in given] if given else []


@contextmanager
def _progress() -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        yield bars


def _tell_decisions(site: Site, decision_ids: list[int], *, asked: int) -> None:
    from nightshift import registry
    from nightshift.data import connect

    with connect(site.database_url).transaction() as tx:
        decisions = [registry.decision(tx, decision_id) for decision_id in decision_ids]
        names = {d.model_id: registry.model_of(tx, d.model_id).name for d in decisions}
    for decision in decisions:
        console.print(
            f"{names[decision.model_id]}: {decision.kind}: {decision.reason}", highlight=False
        )
    if asked > len(decisions):
        console.print(
            f"{asked - len(decisions)} of {asked} models could not be trained; the audit trail"
            " (nightshift.events) says why",
            highlight=False,
        )


def _tell_simulation(site: Site, name: str, outcomes: list, out: Path) -> None:  # type: ignore[type-arg]
    import pandas as pd

    from nightshift import simulation

    family = site.family(name)
    table = Table(title=f"{name}: {family.performance.metric} over every labelled prediction")
    for heading in ("policy", "metric", "fits", "breaches", "promotions", "nights"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    for o in outcomes:
        table.add_row(
            o.policy,
            f"{o.value:.3f}",
            str(o.fits),
            str(o.breaches),
            str(o.promotions),
            str(len(o.nights)),
        )
    console.print(table)
    won = simulation.won_back(outcomes)
    if won is not None:
        fits = {outcome.policy: outcome.fits for outcome in outcomes}
        console.print(
            f"as-configured wins back {won[0]:.0%} of what {won[1]} wins over never, with"
            f" {fits['as-configured'] / fits[won[1]]:.0%} of its fits"
        )
    out.mkdir(parents=True, exist_ok=True)
    frame = pd.concat([o.nights.assign(policy=o.policy) for o in outcomes])
    frame.to_csv(out / f"{name}.csv", index=False)
    simulation.plot(family, outcomes, out / f"{name}.png")
    console.print(f"by night: {out / f'{name}.csv'}, {out / f'{name}.png'}", highlight=False)
