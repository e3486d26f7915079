"""The laboratory on a small family: what it lives through is what the steps live through."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from sqlalchemy import make_url
from tests.world import FAMILY, World

from nightshift import simulation, tuning
from nightshift.errors import ConfigError, TrainingError

DAY = timedelta(days=1)
FIRST, LAST = 9, 38


@pytest.fixture
def databases(
    new_database: Callable[..., str],
) -> tuple[Callable[[str, str | None], str], list[str]]:
    made: dict[str, str] = {}
    left: list[str] = []

    def make(name: str, template: str | None) -> str:
        source = make_url(made[template]).database if template else "template"
        made[name] = new_database(str(source))
        left.append(name)
        return made[name]

    return make, left


def ask(
    world: World, databases: tuple[Callable[[str, str | None], str], list[str]], **question: object
) -> tuning.Report:
    make, left = databases
    shown: list[tuple[str, int, int]] = []
    report = tuning.tune(
        world.site,
        FAMILY,
        tuning.Question(world.night(FIRST), world.night(LAST), **question),  # type: ignore[arg-type]
        folder=world.site.state / "tuning",
        make_database=make,
        drop_database=left.remove,
        progress=lambda *told: shown.append(told),
    )
    assert {"nights", "versions", "configurations"} <= {what for what, _, _ in shown}
    return report


def test_a_life_in_the_laboratory_is_that_of_the_steps(
    world: World, databases: tuple[Callable[[str, str | None], str], list[str]], tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    written = yaml.safe_load((world.folder / "model.yaml").read_text())
    written["performance"]["threshold"] = -100.0
    other.write_text(yaml.safe_dump(written))
    beside = [tuning.read(other, world.site.family(FAMILY))]
    report = ask(world, databases, windows=["P5D"], every=DAY, always=True, beside=beside)
    make, left = databases
    assert left == []
    assert not (world.site.state / "tuning").exists()

    lived = simulation.simulate(
        world.site,
        FAMILY,
        world.night(FIRST),
        world.night(LAST),
        ["never", "as-configured", "always"],
        folder=world.site.state / "simulations",
        make_database=make,
        progress=lambda name, night, of: None,
    )
    for outcome in lived:
        nights = report.of(outcome.policy).nights
        assert list(nights["as_of"]) == list(outcome.nights["as_of"])
        assert nights["value"].to_list() == pytest.approx(outcome.nights["value"].to_list())
    never, configured = report.of("never"), report.of("as-configured")
    assert configured.value > never.value
    assert report.of("other.yaml").value == pytest.approx(never.value)
    # The change comes in the middle: nothing could be learnt from the first half, and it is told.
    assert {"weekly", "naive"} <= {outcome.policy for outcome in report.outcomes}
    for line in report.lines:
        assert line.blocks >= 1


def test_what_cannot_be_tuned_is_said_in_a_sentence(
    world: World, databases: tuple[Callable[[str, str | None], str], list[str]], tmp_path: Path
) -> None:
    family = world.site.family(FAMILY)
    with pytest.raises(ConfigError, match="no ISO 8601 duration above zero; write P60D"):
        ask(world, databases, windows=["60 days"])
    with pytest.raises(ConfigError, match="is no mix: write window, past and the share"):
        ask(world, databases, mixes=["P5D"])
    with pytest.raises(ConfigError, match="is not there"):
        tuning.read(tmp_path / "none.yaml", family)
    other = tmp_path / "other.yaml"
    written = yaml.safe_load((world.folder / "model.yaml").read_text())
    other.write_text(yaml.safe_dump({**written, "features": {"numeric": ["size"]}}))
    with pytest.raises(ConfigError, match="has other features than"):
        tuning.read(other, family)
    world.configure(retrain={"training": {"window": "P5D", "policy": "incremental"}})
    with pytest.raises(TrainingError, match="policy is incremental"):
        ask(world, databases)
    assert databases[1] == []


def test_a_source_without_history_gives_its_stored_nights(
    world: World, databases: tuple[Callable[[str, str | None], str], list[str]]
) -> None:
    world.configure(source={"connection": "warehouse", "history": "mutable"})
    _make, left = databases
    with pytest.raises(TrainingError, match="no accepted night is stored between"):
        ask(world, databases)
    assert left == []


@pytest.mark.parametrize("stage", ["nights", "versions"])
def test_whoever_stops_it_finds_no_database_no_file_and_no_worker(
    world: World, databases: tuple[Callable[[str, str | None], str], list[str]], stage: str
) -> None:
    make, left = databases
    workers: list[object] = []

    def stop(what: str, done: int, total: int) -> None:
        if what == stage:
            workers.extend(multiprocessing.active_children())
            raise SystemExit(143)  # what the command's handler of SIGTERM raises

    with pytest.raises(SystemExit):
        tuning.tune(
            world.site,
            FAMILY,
            tuning.Question(world.night(FIRST), world.night(LAST)),
            folder=world.site.state / "tuning",
            make_database=make,
            drop_database=left.remove,
            progress=stop,
        )
    assert workers
    assert multiprocessing.active_children() == []
    assert left == []
    assert not (world.site.state / "tuning").exists()
