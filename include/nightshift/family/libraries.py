"""By how much the libraries under a version may differ from those it was trained with."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from nightshift.wording import nearest

MayDiffer = Literal["exact", "patch", "minor", "any"]

RECORDED_LIBRARIES = (
    "scikit-learn",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "joblib",
    "threadpoolctl",
)
"""The libraries whose version is written down with everything that is trained. Beside them are
those that the steps of its pipeline come from."""

LIBRARIES_MAY_DIFFER: Mapping[str, MayDiffer] = {"scikit-learn": "patch"}
"""What may differ unless model.yaml says otherwise: scikit-learn promises that a fitted estimator
is read back only by the release that wrote it."""


def _complete(libraries: dict[str, MayDiffer]) -> dict[str, MayDiffer]:
    """With what is so by default; names that nothing is recorded under are refused."""
    recorded = {*RECORDED_LIBRARIES, "python"}
    for name in libraries:
        if name not in recorded and not _installed(name):
            raise ValueError(
                f"no package {name!r} is installed{nearest(name, recorded)}; name packages as"
                " pip does, or python"
            )
    return {**LIBRARIES_MAY_DIFFER, **libraries}


def _installed(name: str) -> bool:
    try:
        version(name)
    except (PackageNotFoundError, ValueError):
        return False
    return True


Libraries = Annotated[dict[str, MayDiffer], AfterValidator(_complete), Field(validate_default=True)]
