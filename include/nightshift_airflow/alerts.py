"""Tells people, through the Airflow notifiers that ``model.yaml`` names, at the end of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier, get_current_context
from airflow.sdk.exceptions import AirflowException

from nightshift.errors import ConfigError, DatabaseUnavailable
from nightshift.family import ModelFamily, Notifier
from nightshift.wording import listed
from nightshift_airflow import runtime

if TYPE_CHECKING:
    from airflow.sdk import Context

    from nightshift.reports import Alert
    from nightshift.site import Site


def tell(family: ModelFamily, kind: runtime.Kind, decision_ids: Sequence[int] = ()) -> int:
    """Raise the alerts of the current run, and send what a notifier has not delivered yet.

    Returns
    -------
    int
        How many messages were sent.

    Raises
    ------
    ConfigError
        An entry under ``alerts`` is no notifier, or refuses its arguments; all others were told.
    AirflowException
        A notifier could not deliver; all others were told, and another try sends what is left.
    """
    from nightshift.reports import Run
    from nightshift.steps import monitor

    context = get_current_context()
    site, run = runtime.site(), context["dag_run"]
    try:
        raised = monitor.alerts(
            site,
            family.family,
            Run(
                kind,
                runtime.as_of(family, kind, context),
                since=run.run_after,
                failed=failed_tasks(context),
                decision_ids=decision_ids,
            ),
            now=runtime.now(),
        )
    except DatabaseUnavailable as lost:
        if context["ti"].try_number <= context["ti"].max_tries:
            raise
        # Nobody can remember who was told, but somebody must be.
        send(family, [_outage(family, kind, lost, context)], context)
        raise
    return send(family, raised, context, site)


def send(
    family: ModelFamily, alerts: Sequence[Alert], context: Context, site: Site | None = None
) -> int:
    """Hand alerts to each notifier that wants them and has not delivered them.

    Deliveries are remembered in the database of ``site``; without a site they are not.
    """
    from nightshift.steps import monitor

    sent = 0
    refused: list[ConfigError] = []
    undelivered: list[str] = []
    for name, key, notifier in _named(family):
        try:
            make(family, key, notifier)
        except ConfigError as error:
            refused.append(error)
            continue
        for alert in alerts:
            if alert.cause not in notifier.on or name in alert.delivered_by:
                continue
            try:
                # Rendering changes the notifier and the context: each alert gets its own.
                make(family, key, notifier)({**context, "alert": alert})
            except Exception as error:  # a notifier may raise anything; the others go on
                undelivered.append(f"{name} on {alert.title!r}: {type(error).__name__}: {error}")
                continue
            sent += 1
            if site is not None:
                monitor.delivered(site, alert.alert_id, name, now=runtime.now())
    _complain(family, refused, undelivered)
    return sent


def make(family: ModelFamily, key: str, notifier: Notifier) -> BaseNotifier:
    """The Airflow notifier that an entry under ``alerts`` names, with its arguments.

    Parameters
    ----------
    key
        Where the entry is in model.yaml, for messages.

    Raises
    ------
    ConfigError
        It cannot be imported, is not a notifier, or refuses its arguments.
    """
    where = f"{family.family}: {family.folder / 'model.yaml'}: {key}"
    notifier_class = _imported(f"{where}.notifier", notifier.notifier)
    try:
        return notifier_class(**notifier.arguments)
    except Exception as error:  # a notifier may say anything to its arguments
        accepted = listed(name for name in signature(notifier_class).parameters if name != "kwargs")
        raise ConfigError(
            f"{where}.arguments: {notifier.notifier} refuses them: {error}; accepted: {accepted}"
        ) from error


def _imported(where: str, path: str) -> type[BaseNotifier]:
    module, _, name = path.rpartition(".")
    try:
        notifier_class = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{where}: {path!r} cannot be imported: {error}. Accepted is the path of a notifier"
            " class that is installed wherever Airflow's tasks run, such as"
            " airflow.providers.smtp.notifications.smtp.SmtpNotifier"
        ) from error
    if not (isinstance(notifier_class, type) and issubclass(notifier_class, BaseNotifier)):
        raise ConfigError(
            f"{where}: {path!r} is {notifier_class!r}; accepted is a subclass of"
            " airflow.sdk.BaseNotifier"
        )
    return notifier_class


def _named(family: ModelFamily) -> Iterator[tuple[str, str, Notifier]]:
    """Each notifier under the name that deliveries are stored under, and where it stands.

    The name does not change with the arguments: whoever mends a template is not told again.
    """
    counts: Counter[str] = Counter()
    for number, notifier in enumerate(family.alerts):
        counts[notifier.notifier] += 1
        nth = counts[notifier.notifier]
        name = notifier.notifier if nth == 1 else f"{notifier.notifier} {nth}"
        yield name, f"alerts.{number}", notifier


def failed_tasks(context: Context) -> list[str]:
    """The tasks of the current run that have failed, each once."""
    ti = context["ti"]
    states: Mapping[str, Any] = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id])
    failed = {name for name, state in states[ti.run_id].items() if state == "failed"}
    # A mapped task instance is told as task_3.
    tasks = set(ti.task.dag.task_ids)
    return sorted({name if name in tasks else name.rpartition("_")[0] for name in failed})


def _outage(
    family: ModelFamily, kind: runtime.Kind, lost: DatabaseUnavailable, context: Context
) -> Alert:
    from nightshift.reports import Alert

    title = f"{family.family}: {kind} failed"
    as_of = runtime.as_of(family, kind, context)
    return Alert(0, family.family, "failed", title, f"{title}: {lost}", as_of)


def _complain(
    family: ModelFamily, refused: Sequence[ConfigError], undelivered: Sequence[str]
) -> None:
    sentences = [*map(str, refused), *undelivered]
    if undelivered:
        raise AirflowException(f"{family.family}: could not deliver {'; '.join(sentences)}")
    if refused:
        raise ConfigError("; ".join(sentences))
