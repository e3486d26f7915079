"""The DAG that other teams copy is started by what a family announces."""

from __future__ import annotations

from pathlib import Path

from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import Asset, PartitionedAssetTimetable

from nightshift.family import load_family
from nightshift_airflow.wiring import predictions_asset

HOME = Path(__file__).resolve().parents[2]


def test_the_example_waits_for_the_nights_of_air_time() -> None:
    bag = DagBag(dag_folder=str(HOME / "examples" / "plan_gates.py"))
    assert bag.import_errors == {}
    timetable = bag.dags["plan_gates"].timetable
    # Nights carry partition keys, and Airflow starts no other timetable for them.
    assert isinstance(timetable, PartitionedAssetTimetable)
    family = load_family(HOME / "include" / "models" / "air_time")
    assert isinstance(timetable.asset_condition, Asset)
    assert timetable.asset_condition.name == predictions_asset(family).name
