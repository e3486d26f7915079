"""The documentation as a site: it builds without a warning, and nothing is elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parents[2]


class Links(HTMLParser):
    """Where a page leads, and what a browser fetches for it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.page = page
        self.pages: set[Path] = set()
        self.fetched: set[str] = set()
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        href = (given.get("href") or "").partition("#")[0]
        if tag == "a" and href.endswith(".html") and "//" not in href:
            self.pages.add((self.page.parent / href).resolve())
        if tag in ("script", "img", "iframe") and given.get("src"):
            self.fetched.add((given["src"] or "").partition("#")[0])
        if tag == "link" and given.get("rel") in ("stylesheet", "icon"):
            self.fetched.add(given["href"] or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=HOME,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_every_page_is_two_clicks_away_and_every_link_leads_somewhere(site: Path) -> None:
    pages = {page.resolve() for page in site.rglob("*.html")} - {(site / "404.html").resolve()}
    first = Links(site / "index.html").pages
    second = set().union(*(Links(page).pages for page in first))
    assert pages - first - second == set()
    assert (first | second) - pages == set()


def test_the_site_fetches_nothing_from_elsewhere_and_is_searched_offline(site: Path) -> None:
    for page in site.rglob("*.html"):
        for place in Links(page).fetched:
            start = site if place.startswith("/") else page.parent
            assert (start / place.lstrip("/")).is_file(), (page, place)
    assert (site / "search" / "search_index.js").is_file()
