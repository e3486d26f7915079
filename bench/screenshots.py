"""``make screenshots``: the pictures of docs/images, taken from the demo's data.

They are taken of this installation's own database, as ``make demo`` leaves it, by the pages alone:
no login is photographed, and no Airflow needs to run.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright
from rich.console import Console

from bench.web import serving
from nightshift import data, local

IMAGES = Path("docs/images")
SHOTS = {
    "fleet": "",
    "model": "models/air_time/air_time",
    "night": "nights/air_time/{night}",
    "decision": "decisions/{decision}",
}
"""The name of each picture and the page it is of."""


def main() -> None:
    site = local.site()
    with data.connect(site.database_url, read_only=True).transaction() as tx:
        places = {
            "night": tx.one("demo.latest_night", family="air_time").as_of.isoformat(),
            "decision": _last_promotion(tx),
        }
    IMAGES.mkdir(parents=True, exist_ok=True)
    with serving(site.database_url, site.state) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for name, path in SHOTS.items():
            for theme in ("light", "dark"):
                _take(browser, url + path.format(**places), IMAGES / f"{name}-{theme}.png", theme)
        browser.close()


def _last_promotion(tx: data.Transaction) -> int:
    model = tx.one("web.model", family="air_time", model="air_time")
    promoted = [row for row in tx.rows("web.changes", model_id=model.model_id) if row.version]
    if not promoted:
        sys.exit("air_time has no champion yet: run `make demo` first")
    decision: int = promoted[-1].decision_id
    return decision


def _take(browser: Browser, url: str, file: Path, theme: str) -> None:
    page = browser.new_page(
        viewport={"width": 1280, "height": 860},
        color_scheme="dark" if theme == "dark" else "light",
    )
    page.goto(url, wait_until="networkidle")
    page.screenshot(path=file)
    page.close()
    Console().print(f"{file}")


if __name__ == "__main__":
    main()
