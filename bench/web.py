"""``make bench-web``: the fleet of 5,000 models with a year of history, as a browser meets it.

An embedded Postgres is filled with what 365 nights of 5,000 models leave behind, and the pages are
served by uvicorn without Airflow, to a reader who may see everything. Measured are the fleet read
anew, as after something has happened, and as it is known; a browser opens it with an empty cache.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from sqlalchemy import Connection, text

from nightshift.local import Postgres, session

from . import grounds
from .figures import Figure, figure, tell

NIGHTS = 365
ROUNDS = 5
FIRST_BYTE, WHOLE_PAGE, BYTES = 0.3, 2.0, 1_500_000
SQL = Path(__file__).with_suffix(".sql")
PATIENCE = 60


def main() -> None:
    with grounds.postgres(durable=False) as (server, folder):
        with Console().status("Writing a year of 5,000 models"):
            fill(server, "nightshift")
        with serving(server.url("nightshift"), folder) as url:
            figures = list(measure(url, lambda: _happen(server)))
    tell(f"The fleet of 5,000 models and {NIGHTS} nights, medians of {ROUNDS}", figures, "web")


def fill(server: Postgres, name: str) -> None:
    """Write a year of history into a migrated database, night by night."""
    found = re.findall(
        r"^-- name: (\w+)\n(.*?)(?=^-- name|\Z)", SQL.read_text(), re.MULTILINE | re.DOTALL
    )
    blocks = dict(found)
    with session(server.url(name)) as connection:
        _run(connection, blocks["before"])
        for number in range(1, NIGHTS + 1):
            _run(connection, blocks["night"], n=number)
        _run(connection, blocks["after"])


@contextmanager
def serving(database_url: str, folder: Path) -> Iterator[str]:
    """The pages under uvicorn, in a process of their own; their address."""
    port = grounds.free_port()
    words = [sys.executable, "-m", "bench.web_server", database_url, str(folder), str(port)]
    process = subprocess.Popen(words)
    url = f"http://127.0.0.1:{port}/nightshift/"
    try:
        _until_it_answers(url + "static/style.css")
        yield url
    finally:
        process.terminate()
        process.wait()


def measure(url: str, happen: Callable[[], None]) -> Iterator[Figure]:
    """Every figure, over ``ROUNDS`` rounds."""
    anew, known, opened, again, sizes = [], [], [], [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for _ in range(ROUNDS):
            happen()
            anew.append(_first_byte(url))
            known.append(_first_byte(url))
            happen()
            seconds, size = _opened(browser, url)
            opened.append(seconds)
            sizes.append(size)
            again.append(_opened(browser, url)[0])
        browser.close()
    yield figure("first byte, read anew", anew, "s", at_most=FIRST_BYTE)
    yield figure("first byte, known", known, "s", at_most=FIRST_BYTE)
    yield figure("whole page in Chromium, read anew", opened, "s", at_most=WHOLE_PAGE)
    yield figure("whole page in Chromium, known", again, "s", at_most=WHOLE_PAGE)
    yield figure("page with styles and scripts", sizes, "bytes", at_most=BYTES)


def _first_byte(url: str) -> float:
    with httpx.Client() as client:
        start = time.perf_counter()
        with client.stream("GET", url) as answer:
            answer.raise_for_status()
            pieces = answer.iter_raw()
            next(pieces)
            seconds = time.perf_counter() - start
            for _ in pieces:
                pass
    return seconds


def _opened(browser: Browser, url: str) -> tuple[float, int]:
    """Seconds to the load event, and the uncompressed bytes of everything that was fetched."""
    bodies: list[int] = []
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.on("requestfinished", lambda request: bodies.append(request.sizes()["responseBodySize"]))
    page.goto(url, wait_until="load")
    loaded = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    page.close()
    return float(loaded) / 1000, sum(bodies)


def _happen(server: Postgres) -> None:
    """Something happens to the fleet, so that it must be read anew."""
    with session(server.url("nightshift")) as connection:
        connection.exec_driver_sql(
            "insert into nightshift.events (happened_at, code, detail)"
            " values (now(), 'bench', '{}')"
        )


def _run(connection: Connection, block: str, **parameters: int) -> None:
    for statement in block.strip().removesuffix(";").split(";\n"):
        given = parameters if ":n" in statement else {}
        connection.execute(text(statement.replace("::", r"\:\:")), given)


def _until_it_answers(url: str) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            if httpx.get(url).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise TimeoutError(f"{url} did not answer within {PATIENCE} s")


if __name__ == "__main__":
    main()
