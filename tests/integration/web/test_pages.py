"""The pages: they show what the database holds, as text, to those who may see it."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from tests.hosts import Reader
from tests.world import FAMILY, World

from nightshift import wording
from nightshift.local import session
from nightshift.web.app import create

ROOT = "/anywhere/nightshift"
NIGHT = f"{ROOT}/nights/{FAMILY}/2026-01-21T02%3A00%3A00Z"
MODEL = f"{ROOT}/models/{FAMILY}/{FAMILY}"
PROBE = """x"'><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}"""


def browse(host: Reader) -> TestClient:
    outer = FastAPI()
    outer.mount(ROOT, create(host))
    return TestClient(outer)


@pytest.fixture
def client(lived: World) -> TestClient:
    return browse(Reader(lived.site))


def table(answer: Any) -> list[dict[str, str]]:
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(answer.text)))


class Page(HTMLParser):
    """What a page would make a browser do: its links, and what a strict policy forbids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.forbidden: list[str] = []
        self.said: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "a":
            self.links.append(given.get("href") or "")
        inert = given.get("type") == "application/json" or "src" in given
        if (tag == "script" and not inert) or tag in ("style", "iframe", "img"):
            self.forbidden.append(self.get_starttag_text() or tag)
        self.forbidden += [name for name in given if name == "style" or name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def pages(client: TestClient) -> Iterator[tuple[str, str]]:
    """Every page and file that can be reached from the fleet by links; none may fail."""
    waiting, met = [f"{ROOT}/"], set()
    while waiting:
        url = waiting.pop()
        if url in met:
            continue
        met.add(url)
        answer = client.get(url)
        assert answer.status_code == 200, url
        yield url, answer.text
        if answer.headers["content-type"].startswith("text/html"):
            waiting += [link for link in Page(answer.text).links if link.startswith(ROOT)]


def test_the_fleet_tells_the_last_night_and_every_model(lived: World, client: TestClient) -> None:
    shown = client.get(f"{ROOT}/").text
    [measured] = lived.rows(
        "select value, threshold from nightshift.measurements where version_id is not null"
        " and decisive and slice = '' order by as_of desc limit 1"
    )
    assert re.search(
        r'<h1 class="verdict bad">loads did not publish the last night; 1 model: 1', shown
    )
    if measured.value is not None:
        reading = wording.Gauge("neg_mean_absolute_error").reading(measured.value, -1.0)
        assert f"<i>{reading.figure}</i>" in shown
    [line] = table(client.get(f"{ROOT}/fleet.csv"))
    assert line["family"] == line["model"] == FAMILY
    assert line["value"] == ("" if measured.value is None else str(measured.value))
    assert float(line["threshold"]) == measured.threshold


def test_a_model_shows_every_measurement_and_every_decision(
    lived: World, client: TestClient
) -> None:
    shown = client.get(MODEL).text
    series = json.loads(
        re.search(r'<script type="application/json" id="series">(.*?)</script>', shown)[1]  # type: ignore[index]
    )
    held = lived.rows(
        "select as_of, value, low, high, labels from nightshift.measurements"
        " where version_id is not null order by as_of"
    )
    # People think of an error above zero, and of the smaller end of its interval first.
    assert series["value"] == [None if row.value is None else -row.value for row in held]
    assert series["low"] == [None if row.high is None else -row.high for row in held]
    assert series["time"] == [row.as_of.timestamp() for row in held]
    assert series["labels"] == [row.labels for row in held]
    changes = lived.rows("select count(*) as n from nightshift.promotions")
    assert sum(1 for _, _, version in series["marks"] if version) == changes[0].n
    rows = table(client.get(f"{MODEL}/measurements.csv"))
    decisive = [row for row in rows if row["version"]]
    assert [row["value"] for row in decisive] == [
        "" if row.value is None else str(row.value) for row in held
    ]
    for row in lived.rows("select reason from nightshift.decisions where kind <> 'keep'"):
        assert row.reason.replace("'", "&#39;") in re.sub(r"</?time[^>]*>", "", shown)


def test_versions_show_their_manifest_and_where_two_differ(
    lived: World, client: TestClient
) -> None:
    manifest = client.get(f"{MODEL}/versions/2.json").json()
    [held] = lived.rows("select manifest from nightshift.versions where number = 2")
    assert manifest == held.manifest
    against = client.get(f"{MODEL}/versions/2?against=1").text
    assert "<code>cutoff</code>" in against
    assert manifest["cutoff"] in against
    assert "<code>family</code>" not in against
    assert client.get(f"{MODEL}/versions/99").status_code == 404


def test_a_night_shows_its_snapshot_its_checks_and_its_batch(
    lived: World, client: TestClient
) -> None:
    shown = client.get(NIGHT).text
    [snapshot] = lived.rows(
        "select * from nightshift.snapshots where as_of = '2026-01-21 02:00+00'"
    )
    assert snapshot.content_hash in shown
    assert "30 rows were published at" in shown
    assert f'href="/dags/{FAMILY}.score/runs?run_id_pattern=2026-01-21T02%3A00%3A00Z"' in shown
    checks = table(client.get(f"{NIGHT}/checks.csv"))
    assert {"columns", "row_count", "unique"} <= {check["expectation"] for check in checks}
    assert all(check["success"] == "True" for check in checks)
    assert table(client.get(f"{NIGHT}/models.csv")) == [
        {"model": FAMILY, "version": "1", "rows": "30", "alerts": "0"}
    ]


def test_a_refused_night_shows_what_was_unexpected(lived: World) -> None:
    lived.configure(
        expectations=[
            {
                "type": "expect_column_values_to_be_in_set",
                "column": "kind",
                "value_set": ["k0", "k1"],
            }
        ]
    )
    lived.score(24)
    client = browse(Reader(lived.site))
    url = f"{ROOT}/nights/{FAMILY}/2026-01-25T02:00:00Z"
    shown = client.get(url).text
    assert "This night is not published; readers see the one before." in shown
    assert "10 of 30 rows unexpected" in shown
    assert "<code>k2</code>" in shown
    fleet = client.get(f"{ROOT}/").text
    assert "1 model: 1 failed" in fleet
    lived.write("model.yaml", "family: [")
    hidden = client.get(url).text
    assert "<code>k2</code>" not in hidden
    assert "10 of 30 rows unexpected" in hidden


def test_a_decision_shows_the_comparison_it_rests_on(lived: World, client: TestClient) -> None:
    [compared] = lived.rows(
        "select c.*, d.decision_id as verdict from nightshift.comparisons c"
        " join nightshift.decisions d on d.about = 'comparison' and d.about_id = comparison_id"
        " where champion_version is not null order by comparison_id limit 1"
    )
    for decision in (compared.decision_id, compared.verdict):
        shown = client.get(f"{ROOT}/decisions/{decision}").text
        assert f'<td class="n">{compared.difference:.4g}</td>' in shown
        assert f"at least {compared.low:.4g}" in shown
        whole = table(client.get(f"{ROOT}/decisions/{decision}.csv"))[0]
        assert float(whole["difference"]) == compared.difference
        assert int(whole["rows"]) == compared.row_count


def test_every_link_leads_somewhere_and_no_page_breaks_the_policy(client: TestClient) -> None:
    seen = dict(pages(client))
    assert len(seen) > 40
    for url, text in seen.items():
        if not url.endswith((".csv", ".json")):
            assert Page(text).forbidden == [], url


def test_what_people_write_is_shown_as_text(lived: World, client: TestClient) -> None:
    with session(lived.site.database_url) as connection:
        for statement in _POISON:
            connection.exec_driver_sql(statement, {"probe": PROBE})
    seen = dict(pages(client))
    poisoned = [url for url, text in seen.items() if "onerror" in text]
    model = f"{ROOT}/models/{FAMILY}/{quote(PROBE, safe='')}"
    assert {f"{ROOT}/", model, NIGHT, f"{ROOT}/families/{FAMILY}"} <= set(poisoned)
    for url in poisoned:
        if not url.endswith((".csv", ".json")):
            assert Page(seen[url]).forbidden == [], url
    for place in (model, NIGHT):
        assert PROBE in "".join(Page(seen[place]).said)
    lines = table(client.get(f"{ROOT}/fleet.csv"))
    assert PROBE in {line["model"] for line in lines}


def test_text_that_a_spreadsheet_would_run_is_quoted(lived: World, client: TestClient) -> None:
    with session(lived.site.database_url) as connection:
        connection.exec_driver_sql(
            "insert into nightshift.signals select batch_id, model_id, version_id, 'drift',"
            " '=1+1', 0.5, 'alert', 30, now() from nightshift.published p"
            " join nightshift.batch_models using (batch_id)"
        )
    features = {row["feature"] for row in table(client.get(f"{MODEL}/signals.csv"))}
    assert "'=1+1" in features
    assert "=1+1" not in features


@pytest.mark.parametrize("name", ["N/A", "a b", "50%", "näh", "..x"])
def test_models_of_any_name_have_a_page(lived: World, client: TestClient, name: str) -> None:
    with session(lived.site.database_url) as connection:
        connection.exec_driver_sql(_MEMBER, {"probe": name})
    [link] = [
        link for link in Page(client.get(f"{ROOT}/").text).links if link.endswith(quote(name, ""))
    ]
    assert f"<h1>{name} " in client.get(link).text
    assert client.get(f"{link}/measurements.csv").status_code == 200


def test_a_family_that_one_may_not_read_is_not_there(lived: World) -> None:
    known, unknown = (
        browse(Reader(lived.site, families)) for families in (None, frozenset({"other"}))
    )
    fleet = unknown.get(f"{ROOT}/")
    assert fleet.status_code == 200
    assert FAMILY not in fleet.text
    assert table(unknown.get(f"{ROOT}/fleet.csv")) == []
    for url, _ in pages(known):
        if url not in (f"{ROOT}/", f"{ROOT}/fleet.csv"):
            answer = unknown.get(url)
            assert answer.status_code == 404, url
            assert "There is no such page" in answer.text or "/actions/" in url


def test_an_outage_of_the_database_is_told_and_never_an_empty_fleet(lived: World) -> None:
    nobody = replace(lived.site, database_url="postgresql+psycopg2://nobody@127.0.0.1:1/nightshift")
    client = browse(Reader(nobody))
    for url in (f"{ROOT}/", f"{ROOT}/fleet.csv", MODEL, NIGHT, f"{ROOT}/decisions/1"):
        answer = client.get(url)
        assert answer.status_code == 503, url
        assert "The database does not answer" in answer.text


def test_the_fleet_follows_what_happens(lived: World, client: TestClient) -> None:
    before = client.get(f"{ROOT}/").text
    assert client.get(f"{ROOT}/").text == before
    lived.score(24)
    assert "2026-01-25 02:00Z" not in before
    assert "2026-01-25 02:00Z" in client.get(f"{ROOT}/").text


_MEMBER = """
with made as (
    insert into nightshift.models (family, name, created_at)
    values ('loads', %(probe)s, now()) returning model_id
)
insert into nightshift.memberships select model_id, now(), 'active', %(probe)s from made
"""
_POISON = (
    _MEMBER,
    """insert into nightshift.decisions
        (model_id, kind, rule, reason, as_of, inputs, about, subject, decided_at)
    select model_id, 'alert', %(probe)s, %(probe)s, timestamptz '2026-01-21 06:00+00',
           jsonb_build_object(%(probe)s::text, %(probe)s::text), 'monitor', %(probe)s, now()
    from nightshift.models""",
    """insert into nightshift.signals
    select batch_id, model_id, version_id, 'drift', %(probe)s, 0.5, 'alert', 30, now()
    from nightshift.published join nightshift.batch_models using (batch_id)""",
    """insert into nightshift.measurements
        (model_id, metric, as_of, window_start, window_end, state, value, low, high, predictions,
         labels, measured_at, slice, method)
    select model_id, %(probe)s, as_of, window_start, window_end, 'measured', 1, 0, 2, 30, 30,
           measured_at, 'kind=' || %(probe)s, %(probe)s
    from nightshift.measurements where version_id is not null""",
    """insert into nightshift.validations (snapshot_id, rules_hash, verdict, checks, validated_at)
    select snapshot_id, '', 'warned', jsonb_build_array(jsonb_build_object(
        'expectation', %(probe)s::text, 'column', %(probe)s::text, 'success', false,
        'severity', 'warning', 'observed', %(probe)s::text,
        'detail', jsonb_build_object('unexpected', jsonb_build_array(%(probe)s::text)))), now()
    from nightshift.snapshots""",
    """insert into nightshift.events (happened_at, code, family, as_of, detail)
    select now(), 'scoring', 'loads', as_of, jsonb_build_object('reason', %(probe)s::text)
    from nightshift.snapshots""",
    """insert into nightshift.approvals (comparison_id, evidence, evidence_hash, asked_at)
    select comparison_id, %(probe)s, '', now() from nightshift.comparisons""",
    """insert into nightshift.answers
        (approval_id, answer, said_by, evidence_hash, decision_id, answered_at)
    select approval_id, 'declined', %(probe)s, '', decision_id, now()
    from nightshift.approvals join nightshift.comparisons using (comparison_id)""",
    """update nightshift.versions set manifest =
        manifest || jsonb_build_object(%(probe)s::text, %(probe)s::text || version_id)""",
    """update nightshift.comparisons
    set unscorable = %(probe)s, slices = jsonb_build_array(jsonb_build_object(
        'slice', %(probe)s::text, 'rows', 3, 'difference', 1, 'high', 2))""",
)
