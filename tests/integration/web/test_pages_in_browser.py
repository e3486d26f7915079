"""The pages in Chromium: they keep to the policy, the scripts work, and everybody can read them."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.hosts import Reader
from tests.ports import free_port
from tests.waiting import until
from tests.world import FAMILY, World

from nightshift.web.app import create

WIDTHS = (1280, 390)
PATHS = (
    "/",
    f"/families/{FAMILY}",
    f"/models/{FAMILY}/{FAMILY}",
    f"/models/{FAMILY}/{FAMILY}/versions/2?against=1",
    f"/nights/{FAMILY}/2026-01-21T02:00:00Z",
    "/decisions/1",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """axe-core, from npm."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed, so axe-core cannot be had")
    folder = tmp_path_factory.mktemp("axe")
    subprocess.run([npm, "install", "--silent", "--no-save", "axe-core@4"], cwd=folder, check=True)
    return (folder / "node_modules/axe-core/axe.min.js").read_text()


@pytest.fixture
def root(lived: World) -> Iterator[str]:
    """The address of the pages, served on this machine."""
    outer = FastAPI()
    outer.mount("/nightshift", create(Reader(lived.site)))
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(outer, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started, 30)
    yield f"http://127.0.0.1:{port}/nightshift"
    server.should_exit = True
    thread.join()


def test_pages_are_for_everybody_and_keep_to_the_policy(
    browser: Browser, root: str, axe: str
) -> None:
    for theme in ("light", "dark"):
        for width in WIDTHS:
            context = browser.new_context(
                viewport={"width": width, "height": 900},
                color_scheme=theme,
            )
            for path in PATHS:
                _examine(context.new_page(), f"{root}{path}", width, axe)
            context.close()


def _examine(page: Page, url: str, width: int, axe: str) -> None:
    said: list[str] = []
    page.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(url)
    assert page.evaluate("document.documentElement.scrollWidth") <= width, url
    page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    page.evaluate(axe)
    found: list[dict[str, Any]] = page.evaluate("axe.run().then(found => found.violations)")
    serious = [
        (f["id"], [node["html"][:200] for node in f["nodes"][:3]])
        for f in found
        if f["impact"] in ("serious", "critical")
    ]
    assert serious == [], url
    assert said == [], url
    page.close()


def test_the_fleet_is_found_through_and_walked_by_keyboard(browser: Browser, root: str) -> None:
    page = browser.new_page()
    page.goto(f"{root}/")
    card = page.locator("#grid .models a")
    expect(card).to_have_count(1)
    expect(card.locator("svg path")).to_have_count(1)
    page.keyboard.press("/")
    expect(page.locator("#find")).to_be_focused()
    page.keyboard.type("nothing like it")
    expect(card).to_be_hidden()
    assert page.url.endswith("?q=nothing+like+it")
    page.reload()
    expect(card).to_be_hidden()
    page.locator("#find").focus()
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowDown")
    expect(card).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url(f"{root}/models/{FAMILY}/{FAMILY}")
    expect(page.locator("#chart-metric canvas")).to_be_visible()
    page.close()


def test_times_are_the_viewers_and_utc_is_where_the_pointer_rests(
    browser: Browser, root: str
) -> None:
    url = f"{root}/nights/{FAMILY}/2026-01-21T02:00:00Z"
    context = browser.new_context(timezone_id="America/New_York")
    page = context.new_page()
    page.goto(url)
    night = page.locator("h1 time")
    expect(night).to_have_text("2026-01-20 21:00")
    expect(night).to_have_attribute("title", "2026-01-21 02:00Z (UTC)")
    expect(page.locator("#zone")).to_have_text("Times of day: America/New York")
    context.close()
    plain = browser.new_context(timezone_id="America/New_York", java_script_enabled=False)
    page = plain.new_page()
    page.goto(url)
    expect(page.locator("h1 time")).to_have_text("2026-01-21 02:00Z")
    expect(page.locator("#zone")).to_be_hidden()
    plain.close()


def test_every_model_has_its_sparkline_in_either_view(browser: Browser, root: str) -> None:
    page = browser.new_page()
    for view in ("cards", "cells"):
        page.goto(f"{root}/?view={view}")
        line = page.locator("#grid .models a svg path")
        expect(line).to_have_count(1)
        expect(line).to_be_visible()
    page.close()


def test_the_theme_is_airflows(browser: Browser, root: str) -> None:
    context = browser.new_context(color_scheme="light")
    page = context.new_page()
    page.goto(f"{root}/")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.evaluate("localStorage.setItem('theme', 'dark')")
    page.reload()
    assert page.evaluate(background) != light
    context.close()
