"""Which notifiers are accepted, what their templates see, and whom a failure leaves untold."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.providers.smtp.notifications.smtp import SmtpNotifier
from airflow.sdk.exceptions import AirflowException

from nightshift.errors import ConfigError
from nightshift.family import ModelFamily, load_family
from nightshift.reports import Alert
from nightshift_airflow import alerts

HOME = Path(__file__).resolve().parents[2]
SMTP = "airflow.providers.smtp.notifications.smtp.SmtpNotifier"
MakeFamily = Callable[..., ModelFamily]


def alert(number: int = 1, cause: Any = "breach", told: tuple[str, ...] = ()) -> Alert:
    as_of = datetime(2026, 1, 5, 6, tzinfo=UTC)
    title = f"flights: {number} of 86 models breached"
    return Alert(number, "flights", cause, title, f"{title}: HNL", as_of, frozenset(told))


@pytest.fixture
def family(write_family: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> MakeFamily:
    """The family ``flights`` with notifiers, which may be those beside this file."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))

    def make(*entries: dict[str, Any]) -> ModelFamily:
        return load_family(write_family("flights", alerts=list(entries)))

    return make


@pytest.fixture
def messages(tmp_path: Path) -> Path:
    file = tmp_path / "messages.jsonl"
    file.touch()
    return file


def lines(file: Path, text: str = "{{ alert.message }}", **fields: str) -> dict[str, Any]:
    arguments = {"file": str(file), "text": text, "fields": fields}
    return {"notifier": "notifiers.LinesNotifier", "arguments": arguments}


def written(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_templates_see_the_alert_and_the_task(family: MakeFamily, messages: Path) -> None:
    told = lines(
        messages,
        "{{ alert.title }}",
        cause="{{ alert.cause }}",
        family="{{ alert.family }}",
        as_of="{{ alert.as_of.isoformat() }}",
        task="{{ task_id }}",
    )
    context: Any = {"task_id": "alert"}
    assert alerts.send(family(told), [alert(1), alert(2)], context) == 2
    assert written(messages) == [
        {
            "text": f"flights: {number} of 86 models breached",
            "cause": "breach",
            "family": "flights",
            "as_of": "2026-01-05T06:00:00+00:00",
            "task": "alert",
        }
        for number in (1, 2)
    ]
    assert context == {"task_id": "alert"}


def test_a_notifier_is_told_the_causes_it_asks_for_and_nothing_twice(
    family: MakeFamily, messages: Path
) -> None:
    path = "notifiers.LinesNotifier"
    told = family(lines(messages, "first") | {"on": ["drift"]}, lines(messages, "second"))
    raised = [alert(1, "breach"), alert(2, "drift"), alert(3, "drift", (path, f"{path} 2"))]
    assert alerts.send(told, raised, {}) == 3
    assert [line["text"] for line in written(messages)] == ["first", "second", "second"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("airflow.providers.nowhere.Notifier", "cannot be imported: No module named"),
        ("notifiers.Missing", "cannot be imported: module 'notifiers' has no attribute 'Missing'"),
        ("notifiers.NotANotifier", "accepted is a subclass of airflow.sdk.BaseNotifier"),
        ("notifiers.json", "accepted is a subclass of airflow.sdk.BaseNotifier"),
        ("notifiers.LinesNotifier", "missing 2 required positional arguments: 'file' and 'text';"),
    ],
)
def test_what_is_no_notifier_is_refused_although_there_is_nothing_to_tell(
    family: MakeFamily, path: str, message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        alerts.send(family({"notifier": path}), [], {})
    assert str(refused.value).startswith("flights: ")
    assert "model.yaml: alerts.0." in str(refused.value)
    assert path in str(refused.value)
    assert message in str(refused.value)


def test_arguments_that_a_notifier_refuses_are_listed_with_those_it_takes(
    family: MakeFamily,
) -> None:
    told = family({"notifier": SMTP, "arguments": {"to": "x@y", "subjet": "typo"}})
    with pytest.raises(ConfigError) as refused:
        alerts.send(told, [], {})
    assert "alerts.0.arguments: " in str(refused.value)
    assert "unexpected keyword argument 'subjet'; accepted: to, from_email, subject" in str(
        refused.value
    )


def test_a_notifier_that_fails_is_named_and_the_others_are_told(
    family: MakeFamily, messages: Path
) -> None:
    broken = {
        "notifier": "notifiers.BrokenNotifier",
        "arguments": {"while_there": str(messages), "file": str(messages), "text": ""},
    }
    with pytest.raises(AirflowException) as failed:
        alerts.send(family({"notifier": "no.Where"}, broken, lines(messages)), [alert()], {})
    assert "model.yaml: alerts.0.notifier: 'no.Where' cannot be imported" in str(failed.value)
    assert (
        "notifiers.BrokenNotifier on 'flights: 1 of 86 models breached': ConnectionRefusedError:"
        " the mail server does not answer"
    ) in str(failed.value)
    assert [line["text"] for line in written(messages)] == [alert().message]


def test_the_example_with_mail_in_the_documentation_is_accepted(family: MakeFamily) -> None:
    _, _, text = (HOME / "docs" / "alerts.md").read_text().partition("```yaml\n")
    documented = family(*yaml.safe_load(text.partition("```")[0])["alerts"])
    made = alerts.make(documented, "alerts.0", documented.alerts[0])
    assert isinstance(made, SmtpNotifier)
