"""Policies of training that compete: nights before the holdout choose between them."""

from __future__ import annotations

import pytest
from tests.world import FAMILY, World

from nightshift import training
from nightshift.errors import ConfigError
from nightshift.steps import versions

RIVALS = [{"window": "P12D"}, {"window": "P4D"}]

ODD_NIGHTS = """
update truths set value = 3 * size + 3
from items where items.entity_id = truths.entity_id
             and items.night between '2026-01-11' and '2026-01-15'
"""


@pytest.mark.parametrize(
    ("number", "window", "nights", "why"),
    [
        (18, "P12D", 12, "the last four nights before those that choose were odd"),
        (28, "P4D", 4, "the world has changed ten nights ago, and twelve nights know both"),
    ],
)
def test_the_policy_that_was_better_before_the_holdout_makes_the_challenger(
    world: World, number: int, window: str, nights: int, why: str
) -> None:
    world.source(ODD_NIGHTS)
    world.configure(retrain={"training": RIVALS})
    world.train(number)
    [version] = world.rows("select manifest from nightshift.versions")
    manifest = version.manifest
    assert manifest["policy"]["window"] == window, why
    assert len(manifest["nights"]) == nights
    assert manifest["rivals"]["policies"][manifest["rivals"]["chosen"]]["window"] == window
    # what was chosen by ends where the holdout begins
    assert manifest["rivals"]["nights"][1] == manifest["holdout"][0]


def test_a_version_of_a_rival_is_refitted_and_reproduced_by_the_policy_that_it_had(
    world: World,
) -> None:
    world.configure(retrain={"training": RIVALS}, promotion={"refit": True})
    world.train(12)
    world.train(28)
    refit = world.rows("select number, manifest from nightshift.versions where made_as = 'refit'")
    assert refit[-1].manifest["policy"]["window"] == "P4D"
    assert len(refit[-1].manifest["nights"]) == 6
    same = versions.reproduce(world.site, 1, refit[-1].number)
    assert same.same


def test_what_cannot_compete_is_told(world: World) -> None:
    world.configure(retrain={"training": [*RIVALS, {"window": "P4D", "policy": "incremental"}]})
    with pytest.raises(ConfigError, match="competes with no other policy"):
        world.site.family(FAMILY)


def test_one_policy_competes_with_nobody(world: World) -> None:
    assert len(world.site.family(FAMILY).trainings) == 1
    assert training.Choice(world.site.family(FAMILY)).record is None
