"""``check --source``: what would go wrong at night is told before any night."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from tests.world import FAMILY, World
from typer.testing import CliRunner

from nightshift import local
from nightshift.cli import app
from nightshift.errors import DatabaseUnavailable
from nightshift.steps import checking


def findings(world: World, number: int = 12) -> list[checking.Finding]:
    now = world.night(number) + timedelta(hours=13)
    return checking.check_source(world.site, [FAMILY], now=now)


def test_a_family_in_order_is_told_by_its_figures(world: World) -> None:
    told = findings(world)
    assert [finding.sentence for finding in told] == [
        "3 columns, as declared",
        "30 rows at 2026-01-13 02:00Z",
        "390 labels known since 2025-12-27 15:00Z",  # of every night, each known at 14:00
        "30 of 30 entities of 2026-01-12 02:00Z have a label",
        "30 of 30 entities of 2026-01-11 02:00Z have a label",
        "30 of 30 entities of 2026-01-10 02:00Z have a label",
    ]
    assert not any(finding.problem for finding in told)
    assert world.rows("select * from nightshift.snapshots") == []
    assert world.rows("select * from nightshift.labels") == []


def spoil_query(name: str, sql: str) -> Callable[[World], None]:
    return lambda world: world.write(name, sql)


@pytest.mark.parametrize(
    ("spoil", "subject", "words"),
    [
        (
            spoil_query(
                "features.sql", "select entity_id, sizes, kind from items where night = :as_of"
            ),
            "features.sql",
            ['column "sizes" does not exist'],
        ),
        (
            spoil_query(
                "features.sql",
                "select entity_id, size::text as size, kind from items where night = :as_of",
            ),
            "features.sql",
            ["cast(size as double precision)"],
        ),
        (
            lambda world: world.configure(
                expectations=[
                    {
                        "type": "expect_column_values_to_not_be_null",
                        "column": "sise",
                        "severity": "info",
                    }
                ]
            ),
            "features.sql",
            ["expectations.0", "'sise'", "did you mean 'size'?"],
        ),
        (
            lambda world: world.source("insert into items select * from items where size = 3"),
            "night",
            ["1 rows repeat an entity_id, such as '20260113-3'"],
        ),
        (
            lambda world: world.source("update items set entity_id = null where size > 28"),
            "night",
            ["2 rows have no entity_id"],
        ),
        (lambda world: world.source("delete from items"), "night", ["0 rows at 2026-01-13"]),
        (
            lambda world: world.source("update truths set entity_id = 'x' || entity_id"),
            "labels",
            ["0 of 30 entities", "features.sql says '20260112-1'", "labels.sql 'x2026"],
        ),
        (
            lambda world: world.source("delete from truths where mod(size(entity_id), 2) = 1"),
            "labels",
            ["15 of 30 entities", "labels.min_coverage asks for 80%"],
        ),
        (lambda world: world.source("delete from truths"), "labels.sql", ["no labels known"]),
        (
            lambda world: world.source("alter table truths rename column known_at to seen_at"),
            "labels.sql",
            ['column "known_at" does not exist'],
        ),
        (
            lambda world: world.source("update items set entity_id = 'm' || size"),
            "labels.per",
            ["100% of these entities were in the night before", "per: entity_and_as_of"],
        ),
    ],
    ids=[
        "no such column",
        "text",
        "expectation",
        "repeated",
        "nameless",
        "empty",
        "rekeyed",
        "half",
        "no labels",
        "no known_at",
        "same entities",
    ],
)
def test_what_must_be_mended_is_told(
    world: World, spoil: Callable[[World], None], subject: str, words: list[str]
) -> None:
    world.source(
        "create function size(id text) returns int language sql"
        " as $$select split_part(id, '-', 2)::int$$"
    )
    spoil(world)
    told = [finding for finding in findings(world) if finding.problem]
    assert subject in {finding.subject for finding in told}
    sentences = " ".join(finding.sentence for finding in told)
    for word in words:
        assert word in sentences


def test_members_without_a_name_are_counted(world: World) -> None:
    world.configure(
        models={"by": "kind", "thresholds": {"*": -1.0}}, performance={"threshold": None}
    )
    world.source("update items set kind = null where size < 3")
    told = [f.sentence for f in findings(world) if f.subject == "models.by"]
    assert told == ["2 rows have no kind", "3 members in kind"]


def test_a_protected_family_is_told_without_its_values(world: World) -> None:
    world.configure(pseudonymise="hmac")
    world.source("alter table truths alter entity_id type char(16)")
    world.source("insert into items select * from items where size = 3")
    told = " ".join(finding.sentence for finding in findings(world))
    assert "0 of 30 entities" in told
    assert "20260112-1" not in told
    assert "-3" not in told


def test_an_outage_is_raised_and_a_missing_connection_told(world: World) -> None:
    away = dict(world.site.sources, warehouse="postgresql+psycopg2://u@127.0.0.1:9/x")
    object.__setattr__(world.site, "sources", away)
    with pytest.raises(DatabaseUnavailable):
        findings(world)
    object.__setattr__(world.site, "sources", {})
    [told] = findings(world)
    assert told.problem
    assert "no connection 'warehouse'" in told.sentence


def test_the_command_prints_one_table_and_its_exit_code_says_whether_all_is_well(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "site", lambda: world.site)
    monkeypatch.setenv("COLUMNS", "200")
    world.source("update items set night = now() where size < 3")
    answer = CliRunner().invoke(app, ["check", "--source", FAMILY])
    assert "what the source says" in answer.output
    assert "3 columns, as declared" in answer.output
    assert answer.exit_code == 1  # its nights ended long ago, so there are no rows
    assert "mend" in answer.output
