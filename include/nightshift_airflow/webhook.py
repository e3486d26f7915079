"""A notifier that posts alerts to a URL, signed, so that the receiver knows who speaks.

Headers and signature are those of Standard Webhooks (https://www.standardwebhooks.com): HMAC-SHA256
over ``<webhook-id>.<webhook-timestamp>.<body>``, which libraries of most languages verify.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import random
import time
from collections.abc import Iterator, Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import httpx
from airflow.sdk import BaseNotifier, Connection, conf
from airflow.sdk.exceptions import AirflowException

if TYPE_CHECKING:
    from airflow.sdk import Context

    from nightshift.reports import Alert

WORTH_ANOTHER_TRY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses by which a receiver says that the same request may succeed later."""

LONGEST_PAUSE = 30.0
"""Seconds that a receiver may have us wait (``Retry-After``) before it is asked again."""

_ENCODED = "whsec_"  # how Standard Webhooks writes a secret that is base64


class WebhookNotifier(BaseNotifier):
    """Posts ``alert`` as JSON, signed with the password of an Airflow connection.

    Parameters
    ----------
    connection
        An Airflow connection of type ``http``. Its host, with schema and port, is where the alert
        goes; its password is the secret that both sides know, or several with blanks between,
        while one replaces another: each signs.
    path
        What follows the host: ``/hooks/nightshift``.
    tries
        How often it is posted before the task fails, which Airflow then tries again.
    pause
        Seconds before the second post; each later pause is twice as long.
    timeout
        Seconds in which the receiver must answer.
    """

    def __init__(
        self,
        connection: str,
        path: str = "",
        *,
        tries: int = 4,
        pause: float = 1.0,
        timeout: float = 10.0,
    ) -> None:
        super().__init__()
        self.connection = connection
        self.path = path
        self.tries = tries
        self.pause = pause
        self.timeout = timeout

    def notify(self, context: Context) -> None:
        """Post the alert of the context. Raises AirflowException where nobody takes it."""
        alert: Alert = context["alert"]
        url, secrets = self._receiver()
        key = idempotency_key(alert)
        body = json.dumps(_message(alert), ensure_ascii=False).encode()
        with httpx.Client(timeout=self.timeout, follow_redirects=False) as client:
            for pause in self._pauses():
                try:
                    # The moment is that of this try: receivers refuse old ones.
                    headers = signed(secrets, key, int(time.time()), body)
                    answer = client.post(url, content=body, headers=headers)
                except httpx.TransportError as error:
                    what, pause_wanted = f"{type(error).__name__}: {error}", 0.0
                else:
                    if answer.is_success:
                        return
                    what, pause_wanted = f"it answered {answer.status_code}", _pause_wanted(answer)
                    if answer.status_code not in WORTH_ANOTHER_TRY:
                        raise AirflowException(f"{self._who()} did not take the alert: {what}")
                if pause is not None:
                    time.sleep(max(pause, min(pause_wanted, LONGEST_PAUSE)))
        raise AirflowException(
            f"{self._who()} did not take the alert in {self.tries} tries: {what}"
        )

    def _pauses(self) -> Iterator[float | None]:
        """The pause after each try, with some chance in it, so that not all come back at once."""
        for number in range(self.tries - 1):
            yield self.pause * 2**number * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        yield None

    def _receiver(self) -> tuple[str, list[bytes]]:
        connection = Connection.get(self.connection)
        host = connection.host or ""
        if "://" not in host:
            host = f"{connection.schema or 'https'}://{host}"
        port = f":{connection.port}" if connection.port else ""
        secrets = [_bytes(secret) for secret in (connection.password or "").split()]
        if not connection.host or not secrets:
            raise AirflowException(
                f"the Airflow connection {self.connection!r} needs a host, which receives alerts,"
                " and a password, the secret that signs them"
            )
        return f"{host}{port}/{self.path.lstrip('/')}", secrets

    def _who(self) -> str:
        return f"the receiver of the connection {self.connection!r}"


def signed(secrets: Sequence[bytes], key: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of a message: who it is, when (seconds since 1970), and a signature a secret."""
    content = f"{key}.{timestamp}.".encode() + body
    signatures = (base64.b64encode(hmac.digest(s, content, "sha256")).decode() for s in secrets)
    return {
        "content-type": "application/json",
        "idempotency-key": key,
        "webhook-id": key,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def idempotency_key(alert: Alert) -> str:
    """What an alert is known by at the receiver: the same however often it is posted."""
    installation = conf.get("api", "base_url", fallback="")
    parts = [installation, alert.family, alert.cause, str(alert.alert_id), alert.as_of.isoformat()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _message(alert: Alert) -> dict[str, Any]:
    """The same bytes at every try: nothing in it changes while the alert is the same."""
    return {
        "type": f"nightshift.{alert.cause}",
        "timestamp": alert.as_of.isoformat(),
        "data": {
            "family": alert.family,
            "cause": alert.cause,
            "title": alert.title,
            "message": alert.message,
            "as_of": alert.as_of.isoformat(),
        },
    }


def _pause_wanted(answer: httpx.Response) -> float:
    """Seconds that a receiver asks us to wait, as a number or a date; 0 where it does not."""
    given = answer.headers.get("retry-after", "")
    try:
        return (
            float(given)
            if given.isdigit()
            else parsedate_to_datetime(given).timestamp() - time.time()
        )
    except (ValueError, TypeError):
        return 0.0


def _bytes(secret: str) -> bytes:
    if not secret.startswith(_ENCODED):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_ENCODED), validate=True)
    except binascii.Error:
        raise AirflowException(
            f"a secret that begins with {_ENCODED} goes on in base64; this one does not"
        ) from None
