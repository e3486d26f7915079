"""A pseudonym is an HMAC: the same for one entity, another for every key and family."""

from __future__ import annotations

import hashlib
import hmac

import pyarrow as pa

from nightshift.sources import Names

KEY = bytes(range(32))


def test_a_pseudonym_is_half_of_the_hmac_of_family_and_entity() -> None:
    told = hmac.new(KEY, "claims\0ÄÖ-4711".encode(), hashlib.sha256).hexdigest()[:32]
    assert Names("claims", KEY).of("ÄÖ-4711") == f"p-{told}"
    others = {
        Names("claims", KEY).of("4712"),
        Names("other", KEY).of("ÄÖ-4711"),
        Names("claims", KEY[::-1]).of("ÄÖ-4711"),
    }
    assert len(others - {f"p-{told}"}) == 3


def test_a_column_is_told_as_its_entities_are_and_nulls_stay() -> None:
    names = Names("claims", KEY)
    table = pa.table({"size": [1, 2, 3], "entity_id": ["a", None, "b"]})
    told = names.in_column(table)
    assert told["entity_id"].to_pylist() == [names.of("a"), None, names.of("b")]
    assert told.schema.names == table.schema.names
    assert Names("claims").in_column(table) is table


def test_a_pseudonym_stays_what_it_is() -> None:
    names = Names("claims", KEY)
    assert names.of(names.of("a")) == names.of("a")
    assert Names("claims").of("a") == "a"
