"""What ``check`` says of windows too short for their rows, and of metrics without end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.monitoring.test_levels import HORNS

from nightshift import monitoring
from nightshift.documents import Manifest, Worth
from nightshift.family import ModelFamily, load_family
from nightshift.records import Model, Night, Version
from nightshift.registry import Champion

SINCE = datetime(2026, 1, 1, 2, tzinfo=UTC)


def family_of(place: Path, **changes: Any) -> ModelFamily:
    folder = place / "horns"
    folder.mkdir()
    for query in ("features.sql", "labels.sql"):
        (folder / query).write_text("select 1 where :as_of is not null")
    (folder / "estimator.py").write_text("def build(numeric, categorical, seed): ...")
    (folder / "model.yaml").write_text(yaml.safe_dump({**HORNS, **changes}))
    return load_family(folder)


def champion(metric: str, **reference: float) -> Champion:
    model = Model(1, "horns", "horns")
    manifest = Manifest({"training": [SINCE.isoformat(), SINCE.isoformat()]})
    version = Version(1, model, 1, "", b"", manifest, 1, SINCE)
    return Champion(version, SINCE, Worth({"metrics": {metric: reference}}))


def nights(labels: int) -> dict[int, list[Night]]:
    return {1: [Night(SINCE + timedelta(days=day), labels, labels, -4.0, 1.0) for day in range(9)]}


@pytest.mark.parametrize(("labels", "is_told"), [(1, True), (24, False)])
def test_a_window_is_too_short_where_a_doubled_error_is_not_found_in_it(
    tmp_path: Path, labels: int, is_told: bool
) -> None:
    # the error of a row is exponential with a mean of 4; the threshold is 4.4
    relative = {"window": "P7D", "max_drop": {"fraction": 0.1}}
    performance = {"metric": "neg_mean_absolute_error", "min_labels": 5, **relative}
    family = family_of(tmp_path, performance=performance)
    serving = champion("neg_mean_absolute_error", value=-4.0, error=0.4, deviation=4.0)
    told = monitoring.too_short(family, {1: serving}, nights(labels))
    assert (told is not None) is is_told
    if told is not None:
        assert "performance.window holds 7 nights of 1 label:" in told
        assert "from -4, with the threshold at -4.4" in told


def test_a_fall_that_the_metric_cannot_have_is_never_found(tmp_path: Path) -> None:
    performance = {"metric": "accuracy", "window": "P2D", "min_labels": 2, "threshold": 0.2}
    family = family_of(tmp_path, task="multiclass_classification", performance=performance)
    serving = champion("accuracy", value=0.3, error=0.01, deviation=0.46)
    told = monitoring.too_short(family, {1: serving}, nights(1))
    assert told is not None
    assert "can find in them is none" in told


def test_a_metric_without_a_greatest_value_is_not_left_to_the_detector(tmp_path: Path) -> None:
    performance = {"metric": "positive_likelihood_ratio", "window": "P7D", "threshold": 2.0}
    family = family_of(tmp_path, task="binary_classification", performance=performance)
    told = monitoring.unbounded(family)
    assert told is not None
    assert "positive_likelihood_ratio has no greatest value" in told
    assert "a breach over a whole performance.window retrains" in told


def test_nothing_is_said_of_metrics_that_end(tmp_path: Path) -> None:
    assert monitoring.unbounded(family_of(tmp_path)) is None
