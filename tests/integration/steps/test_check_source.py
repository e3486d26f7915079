"""``check --source``: what would go wrong at night is told before any night."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
import yaml
from tests.world import ESTIMATOR, FAMILY, FEATURES, LABELS, MODEL, World
from typer.testing import CliRunner

from nightshift import local
from nightshift.cli import app
from nightshift.errors import DatabaseUnavailable
from nightshift.steps import checking, upkeep


def findings(world: World, number: int = 12) -> list[checking.Finding]:
    now = world.night(number) + timedelta(hours=13)
    return checking.check_source(world.site, [FAMILY], now=now)


def test_a_family_in_order_is_told_by_its_figures(world: World) -> None:
    told = findings(world)
    assert [finding.sentence for finding in told] == [
        "3 columns, as declared",
        "30 rows at 2026-01-13 02:00Z",
        "390 labels known since 2025-12-27 15:00Z",  # of every night, each known at 14:00
        "a constant guess is worth -7.5 in neg_mean_absolute_error",  # sizes are 1 to 30
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
            ["1 row with an entity_id of others, such as '20260113-3'"],
        ),
        (
            lambda world: world.source("update items set entity_id = null where size > 28"),
            "night",
            ["2 rows without an entity_id"],
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
    assert told == ["2 rows without kind", "3 members in kind"]


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


# What is ordinary elsewhere and went wrong at night ----------------------------------------------

PREPARED = """
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

def build(numeric, categorical, seed{arguments}):
    columns = ColumnTransformer(
        [("c", OneHotEncoder(handle_unknown="ignore"), categorical), ("n", "passthrough", numeric)]
    )
    return Pipeline([("columns", columns), {steps}])
"""
TABLE = "from items where night = :as_of"
BINARY = """
select entity_id, cast(mod(round(value::numeric), 2) as {kind}) as value,
       night as event_at, known_at
from truths where known_at > :since and known_at <= :as_of
"""


@dataclass(frozen=True)
class Ordinary:
    """A family as people write one: what differs from the small one, and what must be said of it.

    Without ``words`` it is in order.
    """

    words: tuple[str, ...] = ()
    features: str = FEATURES
    labels: str = LABELS
    estimator: str = ESTIMATOR
    sections: dict[str, Any] = field(default_factory=dict)
    more: dict[str, str] = field(default_factory=dict)


def estimator(steps: str, arguments: str = "", imports: str = "") -> str:
    return imports + PREPARED.replace("{steps}", steps).replace("{arguments}", arguments)


ORDINARY = {
    "moments": Ordinary(
        features="select entity_id, size, kind from items where night::date = :as_of::date and"
        " night > :as_of - interval '7 days' and date_trunc('hour', night) <= date_trunc('hour',"
        " :as_of) and extract(dow from :as_of) >= 0"
    ),
    "moments_of_others": Ordinary(
        ("features.sql", "line 1", "asof"),
        features=f"select entity_id, size, kind {TABLE} or night = :asof::date",
    ),
    "colons": Ordinary(
        features="select entity_id, size, kind from items -- since last load, see :since\n"
        """where night = :as_of and '{"active":true}'::jsonb @> '{"active":true}'"""
    ),
    "expected": Ordinary(
        sections={
            "expectations": [
                {
                    "type": "expect_column_values_to_match_regex",
                    "column": "entity_id",
                    "regex": "^2",
                    "severity": "warning",
                }
            ]
        }
    ),
    "misspelt": Ordinary(
        ("expectations.0", "'sise'", "did you mean 'size'?"),
        sections={
            "expectations": [
                {
                    "type": "expect_column_values_to_not_be_null",
                    "column": "sise",
                    "severity": "info",
                }
            ]
        },
    ),
    "parenthesis": Ordinary(
        ("expectations.0", "'(' is no regular expression"),
        sections={
            "expectations": [
                {"type": "expect_column_values_to_match_regex", "column": "kind", "regex": "("}
            ]
        },
    ),
    "padded": Ordinary(labels=LABELS.replace("entity_id,", "entity_id::char(16) as entity_id,", 1)),
    "rekeyed": Ordinary(
        ("0 of 30 entities", "features.sql says '20260112-1'", "labels.sql 'x2026"),
        labels=LABELS.replace("entity_id,", "'x' || entity_id as entity_id,", 1),
    ),
    "unpicklable": Ordinary(
        ("estimator.build", "step 'double'", "cannot be stored"),
        estimator=estimator(
            "('double', FunctionTransformer(lambda X: X * 2)), ('last', LinearRegression())",
            imports="from sklearn.linear_model import LinearRegression\n",
        ),
    ),
    "leaving": Ordinary(
        ("estimator.build", "cannot be imported: SystemExit: 2"),
        estimator="import sys\n\nsys.exit(2)\n",
    ),
    "identifiers": Ordinary(
        features=f"select md5(entity_id)::uuid as entity_id, size, kind {TABLE}",
        labels=LABELS.replace("entity_id,", "md5(entity_id)::uuid::text as entity_id,", 1),
    ),
    "capitals": Ordinary(
        ("features.sql", "no column 'Size', but 'size'", "folds a name without quotes"),
        features=f"select entity_id, size as Size, kind {TABLE}",
        sections={"features": {"numeric": ["Size"], "categorical": ["kind"]}},
    ),
    "lines": Ordinary(
        ("task is binary_classification, and the last step, LinearRegression, is a regressor",),
        labels=BINARY.replace("{kind}", "int"),
        sections={
            "task": "binary_classification",
            "performance": {**MODEL["performance"], "metric": "roc_auc", "threshold": 0.6},
        },
    ),
    "blanks": Ordinary(
        ("would be refused: some_values on size", "30 of 30 null"),
        features=f"select entity_id, null::float8 as size, kind {TABLE}",
    ),
    "infinite": Ordinary(
        ("would be refused: finite on size",),
        features="select entity_id, case size when 3 then 'infinity' else size end as size, kind"
        f" {TABLE}",
    ),
    "gaps": Ordinary(
        ("estimator.build", "30 rows of this night", "ValueError: Input X contains NaN"),
        features=f"select entity_id, nullif(size, 3) as size, kind {TABLE}",
    ),
    "exponents": Ordinary(
        estimator=estimator(
            "('last', Ridge(alpha=alpha))",
            ", alpha",
            "from sklearn.linear_model import Ridge\n",
        ),
        sections={"estimator": {"params": {"alpha": "EXPONENT"}}},
    ),
    "positive_errors": Ordinary(
        ("performance.threshold", "is at most 0; write -8.0"),
        sections={"performance": {**MODEL["performance"], "threshold": 8.0}},
    ),
    "customers": Ordinary(
        ("labels.per", "100% of these entities were in the night before"),
        features=f"select split_part(entity_id, '-', 2) as entity_id, size, kind {TABLE}",
        labels=LABELS.replace("entity_id,", "split_part(entity_id, '-', 2) as entity_id,", 1),
    ),
    "margins": Ordinary(
        ("performance.metric", "neg_brier_score", "predict_proba"),
        labels=BINARY.replace("{kind}", "int"),
        estimator=estimator("('last', LinearSVC())", imports="from sklearn.svm import LinearSVC\n"),
        sections={
            "task": "binary_classification",
            "performance": {**MODEL["performance"], "metric": "neg_brier_score", "threshold": -0.2},
        },
    ),
    "helped": Ordinary(
        estimator=estimator(
            "('last', Line())", imports="from helpers import Line\nfrom .helpers import Line\n"
        ),
        more={
            "helpers.py": "from sklearn.linear_model import LinearRegression\n"
            "class Line(LinearRegression):\n    pass\n"
        },
    ),
    "decimals": Ordinary(
        features=f"select entity_id, avg(size::numeric) as size, kind {TABLE}"
        " group by entity_id, kind",
        labels=BINARY.replace("{kind}", "numeric(3, 2)"),
        estimator=estimator(
            "('last', LogisticRegression())",
            imports="from sklearn.linear_model import LogisticRegression\n",
        ),
        sections={
            "task": "binary_classification",
            "performance": {**MODEL["performance"], "metric": "roc_auc", "threshold": 0.6},
        },
    ),
    "money": Ordinary(
        ("features.sql", "size", "cast"),
        features=f"select entity_id, size::numeric::money as size, kind {TABLE}",
    ),
    "named_alike": Ordinary(
        ("models.by", "kind has the value 'named_alike'", "models.fallback asks for"),
        features="select entity_id, size,"
        f" case kind when 'k0' then 'named_alike' else kind end as kind {TABLE}",
        sections={
            "performance": {**MODEL["performance"], "threshold": None},
            "models": {"by": "kind", "thresholds": {"*": -1.0}, "fallback": True},
        },
    ),
    "named_otherwise": Ordinary(
        ("models.thresholds", "'K1 ' is no value of kind, and 'k1' is"),
        sections={
            "performance": {**MODEL["performance"], "threshold": None},
            "models": {"by": "kind", "thresholds": {"K1 ": -1.0, "k2": -1.0}},
        },
    ),
    "fares": Ordinary(
        ("performance.metric", "has no value on these 390 labels", "a truth of 0"),
        labels=LABELS.replace("value,", "case when value < 6 then 0 else value end as value,", 1),
        sections={
            "performance": {
                **MODEL["performance"],
                "metric": "neg_mean_absolute_percentage_error",
                "threshold": -0.5,
            }
        },
    ),
}


def test_what_is_ordinary_is_in_order_or_told_before_any_night(world: World) -> None:
    for name, family in ORDINARY.items():
        folder = world.site.models / name
        folder.mkdir()
        model = yaml.safe_dump({**MODEL, "family": name, **family.sections})
        (folder / "model.yaml").write_text(model.replace("EXPONENT", "1e-3"))
        for file, text in {
            "features.sql": family.features,
            "labels.sql": family.labels,
            "estimator.py": family.estimator,
            **family.more,
        }.items():
            (folder / file).write_text(text)
    now = world.night(12) + timedelta(hours=13)
    by_folder = [str(problem) for problem in upkeep.check(world.site)]
    by_source = checking.check_source(world.site, list(ORDINARY), now=now)
    for name, family in ORDINARY.items():
        said = [problem for problem in by_folder if f"/{name}/" in problem] + [
            f"{finding.subject}: {finding.sentence}"
            for finding in by_source
            if finding.family == name and finding.problem
        ]
        assert bool(said) == bool(family.words), (name, said)
        for word in family.words:
            assert word in " ".join(said), name
    assert world.rows("select * from nightshift.snapshots") == []
