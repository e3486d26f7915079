"""What training saw of each column, and how far later rows lie from it: profile, flags, drift."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.family import Features
from nightshift.tables.features import _decoded, numbers

UNSEEN_CATEGORY = 1
OUT_OF_RANGE = 2


BINS = 10
"""How finely numbers are binned for their distribution: by the deciles of training."""

FREQUENT = 0.05
"""A value that is this share of training's rows is a bin of its own: half a decile."""

LEAST_FREQUENT = 5
"""A value that occurs less often than this is frequent by chance."""

MOST_CATEGORIES = 50
"""How many categories a distribution tells apart; the rarer ones count together."""

OTHER = "\N{HORIZONTAL ELLIPSIS}"

MOSTLY_DISTINCT = 0.5
"""From which share of distinct values on a column names its rows, as an id or a text does."""


def profile(table: pa.Table, features: Features) -> dict[str, Any]:
    """What training saw, as a manifest keeps it.

    Returns
    -------
    dict
        ``categories`` (column to values), ``ranges`` (column to [low, high]), ``missing`` (column
            to the share of nulls), ``rows``, and ``distributions``: for a number its
        :func:`histogram`, for a category its ``counts``.
        ``identifiers`` are categorical columns that name their rows: only their nulls are known.
    """
    ranges: dict[str, Any] = {}
    distributions: dict[str, Any] = {}
    for name in features.numeric:
        values = numbers(table[name])
        extent = pc.min_max(values).as_py()
        ranges[name] = [extent["min"], extent["max"]]
        distributions[name] = histogram(_finite(values))
    categories = {}
    identifiers = []
    for name in features.categorical:
        counts = _category_counts(table[name])
        if _names_rows(counts):
            identifiers.append(name)
            continue
        categories[name] = sorted(counts)
        distributions[name] = {"counts": _commonest(counts)}
    return {
        "categories": categories,
        "ranges": ranges,
        "missing": {name: _share_missing(table, name) for name in features.names},
        "distributions": distributions,
        "rows": table.num_rows,
    } | ({"identifiers": identifiers} if identifiers else {})


def histogram(values: np.ndarray) -> dict[str, list[Any]]:
    """Finite numbers by their own deciles: inner ``edges`` and the ``counts`` between them.

    Where single values are frequent, as in a flag, a count, or a number that is mostly 0, deciles
    coincide and tell nothing: ``frequent`` then holds [value, count] of each, which are in
    ``counts`` too.
    """
    if not len(values):
        return {"edges": [], "counts": [0]}
    inner = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1])
    edges = np.unique(inner)
    binned: dict[str, list[Any]] = {
        "edges": edges.tolist(),
        "counts": _binned(values, edges).tolist(),
    }
    frequent = _frequent(values)
    return {**binned, "frequent": frequent} if frequent else binned


def _frequent(values: np.ndarray) -> list[list[float]]:
    """[value, count] of the values that are bins of their own; all, where there are only a few."""
    distinct, counts = np.unique(values, return_counts=True)
    few = len(distinct) <= BINS and len(values) >= BINS * len(distinct)
    least = 1 if few else max(FREQUENT * len(values), LEAST_FREQUENT)
    return [
        [value, count]
        for value, count in zip(distinct.tolist(), counts.tolist(), strict=True)
        if count >= least
    ]


def differences(table: pa.Table, reference: dict[str, Any]) -> Iterator[tuple[str, str, float]]:
    """How rows differ from a :func:`profile`: (signal, feature, value) for each feature.

    ``missing`` is the share of nulls above that of training, ``unseen`` and ``out_of_range`` are
    shares of all rows, ``drift`` is :func:`distance`.
    """
    rows = max(table.num_rows, 1)
    for name in reference.get("identifiers", ()):
        yield "missing", name, max(_share_missing(table, name) - reference["missing"][name], 0.0)
    for name, distribution in reference["distributions"].items():
        if name not in table.column_names:
            continue  # the family has given it up since
        column = table[name]
        yield "missing", name, max(_share_missing(table, name) - reference["missing"][name], 0.0)
        if name in reference["categories"]:
            counts = _category_counts(column)
            categories = set(reference["categories"][name])
            yield "unseen", name, sum(n for v, n in counts.items() if v not in categories) / rows
            before = distribution["counts"]
            yield "drift", name, distance(before, _regrouped(counts, before))
            continue
        values = _finite(numbers(column))
        low, high = reference["ranges"][name]
        if low is not None:
            yield "out_of_range", name, float(((values < low) | (values > high)).sum()) / rows
        yield "drift", name, histogram_distance(values, distribution)


def histogram_distance(values: np.ndarray, reference: dict[str, list[Any]]) -> float:
    """The :func:`distance` of numbers from a :func:`histogram`."""
    edges = np.array(reference["edges"], dtype=np.float64)
    # Versions that were trained before frequent values were told apart have none.
    frequent = reference.get("frequent", [])
    now = [[value, int((values == value).sum())] for value, _ in frequent]
    before = _apart(np.array(reference["counts"]), edges, frequent)
    return distance(before, _apart(_binned(values, edges), edges, now))


def _apart(
    counts: np.ndarray, edges: np.ndarray, frequent: list[list[float]]
) -> dict[tuple[str, float], float]:
    """Counts of bins without the frequent values in them, and of those by themselves."""
    rest = counts.copy()
    for value, count in frequent:
        rest[int(np.searchsorted(edges, value, side="right"))] -= count
    bins = {("bin", float(place)): float(count) for place, count in enumerate(rest)}
    return bins | {("value", value): float(count) for value, count in frequent}


def distance(before: Mapping[Any, float], after: Mapping[Any, float]) -> float:
    """The Jensen-Shannon distance of two samples by their counts, 0 (same) to 1 (apart).

    An effect size: it tells how different two distributions are, not how sure we are. What two
    samples of one distribution differ by on average is taken off, so it does not depend on their
    sizes. (Lin 1991, "Divergence measures based on the Shannon entropy", IEEE Transactions on
    Information Theory 37; the expectation by the second-order expansion around equality.)
    """
    names = [*before, *(name for name in after if name not in before)]
    p, q = (np.array([side.get(n, 0) for n in names], dtype=np.float64) for side in (before, after))
    sizes = p.sum(), q.sum()
    if not all(sizes):
        return 0.0
    p, q = p / sizes[0], q / sizes[1]
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    cells = int((middle > 0).sum())
    by_chance = (cells - 1) * (1 / sizes[0] + 1 / sizes[1]) / (8 * math.log(2))
    return math.sqrt(min(max(divergence - by_chance, 0.0), 1.0))


def flags(table: pa.Table, reference: dict[str, Any]) -> np.ndarray:
    """For each row, ``UNSEEN_CATEGORY | OUT_OF_RANGE`` as int16, against a :func:`profile`.

    A null is neither: estimators are trained with nulls, and validation watches their share.
    """
    result = np.zeros(table.num_rows, dtype=np.int16)
    for name, categories in reference["categories"].items():
        result |= _unseen(table[name], categories) * np.int16(UNSEEN_CATEGORY)
    for name, (low, high) in reference["ranges"].items():
        if low is None:
            continue
        values = numbers(table[name])
        outside = pc.or_(pc.less(values, low), pc.greater(values, high))
        result |= _as_numpy(pc.fill_null(outside, False)) * np.int16(OUT_OF_RANGE)
    return result


def _unseen(column: pa.ChunkedArray, categories: Sequence[str]) -> np.ndarray:
    """For each row 1 where its category is not among the known ones, else 0."""
    if not pa.types.is_dictionary(column.type):
        new = pc.invert(pc.is_in(column, pa.array(categories, column.type)))
        return _as_numpy(pc.and_(pc.is_valid(column), new))
    parts = [np.empty(0, dtype=np.int16)]
    for chunk in column.chunks:
        new = pc.invert(pc.is_in(chunk.dictionary, pa.array(categories, chunk.dictionary.type)))
        parts.append(_decoded(np.append(_as_numpy(new), np.int16(0)), chunk))
    return np.concatenate(parts)


def flag_names(flags: int) -> tuple[str, ...]:
    """Flags of a row by the names that readers see."""
    names = {UNSEEN_CATEGORY: "unseen_category", OUT_OF_RANGE: "out_of_range"}
    return tuple(name for bit, name in names.items() if flags & bit)


def _finite(values: Any) -> np.ndarray:
    present = np.asarray(values.drop_null().to_numpy(), dtype=np.float64)
    return present[np.isfinite(present)]


def _binned(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)


def _category_counts(column: Any) -> dict[str, int]:
    counted = pc.value_counts(column.drop_null())
    return dict(
        zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)
    )


def _names_rows(counts: dict[str, int]) -> bool:
    """Whether values are an id or a text of their own in most rows: then every new one is unseen,
    and no distribution is left to drift from.
    """
    return len(counts) > MOST_CATEGORIES and len(counts) > MOSTLY_DISTINCT * sum(counts.values())


def _commonest(counts: dict[str, int]) -> dict[str, int]:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in ranked[MOST_CATEGORIES:])
    return dict(ranked[:MOST_CATEGORIES]) | ({OTHER: rest} if rest else {})


def _regrouped(counts: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    """Counts under the names that a distribution tells apart."""
    if OTHER not in before:
        return counts
    named = {name: count for name, count in counts.items() if name in before}
    return {**named, OTHER: sum(counts.values()) - sum(named.values())}


def _share_missing(table: pa.Table, name: str) -> float:
    return table[name].null_count / table.num_rows if table.num_rows else 0.0


def _relative_entropy(p: np.ndarray, q: np.ndarray) -> float:
    some = p > 0
    return float((p[some] * np.log2(p[some] / q[some])).sum())


def _as_numpy(mask: Any) -> np.ndarray:
    return np.asarray(mask.to_numpy(zero_copy_only=False), dtype=np.int16)
