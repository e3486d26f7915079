"""Notifiers for tests: Airflow's own base class, writing to a file instead of to people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from airflow.sdk import BaseNotifier


class LinesNotifier(BaseNotifier):
    """Appends each message as a line of JSON to a file."""

    template_fields = ("file", "text", "fields")

    def __init__(self, file: str, text: str, fields: dict[str, str] | None = None) -> None:
        super().__init__()
        self.file = file
        self.text = text
        self.fields = fields or {}

    def notify(self, context: Any) -> None:
        with Path(self.file).open("a") as lines:
            lines.write(json.dumps({"text": self.text, **self.fields}) + "\n")


class BrokenNotifier(LinesNotifier):
    """Cannot reach anybody as long as a file is there."""

    def __init__(self, while_there: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.while_there = Path(while_there)

    def notify(self, context: Any) -> None:
        if self.while_there.exists():
            raise ConnectionRefusedError("the mail server does not answer")
        super().notify(context)


class NotANotifier:
    """Something else that can be imported."""
