"""What a receiver of signed alerts gets: once understood, never believed without the signature."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import AirflowException
from tests.ports import free_port
from tests.receivers import Receiver, receiver

from nightshift.family import load_family
from nightshift.reports import Alert
from nightshift_airflow import alerts
from nightshift_airflow.webhook import WebhookNotifier, idempotency_key

DOCS = Path(__file__).resolve().parents[2] / "docs" / "alerts.md"
SECRET, ENCODED, NEXT = "known-to-both", "whsec_c2VjcmV0IGJ5dGVz", "the-next-one"
AS_OF = datetime(2026, 1, 5, 6, tzinfo=UTC)
Connect = Callable[..., None]


def alert(number: int = 1) -> Alert:
    title = "flights: 3 of 86 models breached"
    return Alert(number, "flights", "breach", title, f"{title}: HNL", AS_OF)


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as received:
        yield received


@pytest.fixture
def connect(hook: Receiver, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Lead the connection ``alerts_hook`` to the receiver."""

    def lead(password: str = SECRET, url: str = "") -> None:
        fields = {"conn_type": "http", "host": url or hook.url, "password": password}
        monkeypatch.setenv("AIRFLOW_CONN_ALERTS_HOOK", json.dumps(fields))

    lead()
    return lead


def notifier(**changes: Any) -> WebhookNotifier:
    return WebhookNotifier("alerts_hook", "/nightshift", pause=0.001, **changes)


def post(number: int = 1, **changes: Any) -> None:
    notifier(**changes).notify({"alert": alert(number)})


def documented_check() -> Callable[[str, Any, bytes], bool]:
    """The receiver's side, as the documentation has it."""
    _, _, text = DOCS.read_text().partition("```python\n")
    names: dict[str, Any] = {}
    exec(text.partition("```")[0], names)
    check: Callable[[str, Any, bytes], bool] = names["is_ours"]
    return check


def test_the_receiver_of_the_documentation_believes_it_and_nothing_that_was_changed(
    hook: Receiver, connect: Connect
) -> None:
    is_ours = documented_check()
    post()
    [got] = hook.posts
    assert got.path == "/nightshift"
    assert json.loads(got.body) == {
        "type": "nightshift.breach",
        "timestamp": "2026-01-05T06:00:00+00:00",
        "data": {
            "family": "flights",
            "cause": "breach",
            "title": "flights: 3 of 86 models breached",
            "message": "flights: 3 of 86 models breached: HNL",
            "as_of": "2026-01-05T06:00:00+00:00",
        },
    }
    assert is_ours(SECRET, got.headers, got.body)
    assert not is_ours("another", got.headers, got.body)
    assert not is_ours(SECRET, got.headers, got.body.replace(b"HNL", b"ANC"))
    for name, other in (("webhook-id", "x"), ("webhook-timestamp", "1767592800")):
        assert not is_ours(SECRET, {**got.headers, name: other}, got.body)


def test_the_signature_is_that_of_standard_webhooks() -> None:
    # The example of the specification's own libraries.
    from nightshift_airflow.webhook import _bytes, signed

    secret = _bytes("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-signature"] == expected


def test_while_a_secret_is_replaced_both_believe_it(hook: Receiver, connect: Connect) -> None:
    is_ours = documented_check()
    connect(f"{ENCODED} {NEXT}")
    post()
    [got] = hook.posts
    assert is_ours(ENCODED, got.headers, got.body)
    assert is_ours(NEXT, got.headers, got.body)
    assert not is_ours(SECRET, got.headers, got.body)


def test_a_receiver_that_is_busy_gets_the_same_again_under_the_same_key(
    hook: Receiver, connect: Connect
) -> None:
    hook.answers = [(503, {}), (429, {"retry-after": "0"}), (200, {})]
    post()
    post()  # as when a task dies before the delivery is stored
    post(2)
    assert len(hook.posts) == 5
    assert len({got.body for got in hook.posts}) == 1
    keys = [got.headers["idempotency-key"] for got in hook.posts]
    assert keys[:4] == [idempotency_key(alert())] * 4
    assert keys[4] != keys[0]
    assert all(got.headers["webhook-id"] == got.headers["idempotency-key"] for got in hook.posts)


@pytest.mark.parametrize("status", [400, 401, 404, 410])
def test_what_a_receiver_refuses_is_not_posted_again(
    hook: Receiver, connect: Connect, status: int
) -> None:
    hook.answers = [(status, {})]
    with pytest.raises(AirflowException, match=f"'alerts_hook' did not .*: it answered {status}"):
        post()
    assert len(hook.posts) == 1


def test_a_signed_alert_follows_nobody_elsewhere(hook: Receiver, connect: Connect) -> None:
    hook.answers = [(307, {"location": f"{hook.url}/elsewhere"})]
    with pytest.raises(AirflowException, match="it answered 307"):
        post()
    assert [got.path for got in hook.posts] == ["/nightshift"]


def test_a_receiver_that_is_away_is_named_without_its_secret(connect: Connect) -> None:
    connect(url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(AirflowException) as failed:
        post(tries=2)
    said = str(failed.value)
    assert said.startswith("the receiver of the connection 'alerts_hook' did not take the alert")
    assert "in 2 tries: ConnectError" in said
    assert SECRET not in said


@pytest.mark.parametrize(
    ("password", "message"),
    [("", "needs a host, which receives alerts, and a password"), ("whsec_?", "goes on in base64")],
)
def test_without_a_secret_nothing_is_posted(
    hook: Receiver, connect: Connect, password: str, message: str
) -> None:
    connect(password)
    with pytest.raises(AirflowException, match=message):
        post()
    assert hook.posts == []


def test_the_entry_in_the_documentation_posts_what_it_asks_for(
    hook: Receiver, connect: Connect, write_family: Callable[..., Path]
) -> None:
    blocks = DOCS.read_text().split("```yaml\n")
    [entry] = [yaml.safe_load(block.partition("```")[0])["alerts"] for block in blocks[2:3]]
    family = load_family(write_family("flights", alerts=entry))
    assert alerts.send(family, [alert()], {}) == 1
    assert [got.path for got in hook.posts] == ["/hooks/nightshift"]
