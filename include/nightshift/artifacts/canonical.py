"""A fitted pipeline as bytes: equal pipelines give equal bytes, in whichever process.

Things of a process would else show in a pickle. Equal strings are written once or twice, depending
on whether they happen to be one object; sets come in the order of their hashes; the gaps between
the fields of a structured array, such as the nodes of a tree, hold whatever the memory held before;
and a library such as dill, once imported, changes how pickle writes slices and functions.
"""

from __future__ import annotations

import io
import pickle
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from joblib.numpy_pickle import NumpyPickler

from nightshift.errors import FOREIGN, TrainingError

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


def to_bytes(pipeline: Pipeline) -> bytes:
    """What joblib reads back; equal for equal pipelines.

    Raises
    ------
    TrainingError
        A step holds what no file can keep.
    """
    try:
        return _written(pipeline)
    except FOREIGN as error:  # a step of the family's own may say how it is written
        raise TrainingError(_why(pipeline, error)) from error


def _written(value: Any) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer).dump(value)
    return buffer.getvalue()


_BY_NAME = (
    "write functions and classes with a name of their own at the top of estimator.py, or of a file"
    " beside it, for a version keeps their names and those files"
)
_REBUILT = (
    "let the step make it when it needs it, or leave it out in __getstate__ and make it again in"
    " __setstate__"
)


def _why(pipeline: Any, error: BaseException) -> str:
    """Which part of a pipeline cannot be stored, and what to write instead."""
    place, part = _culprit(pipeline)
    held = None if "<locals>" in type(part).__qualname__ else _held(part)
    culprit = type(part).__name__
    if held is not None:
        culprit += f", its {held[0]} is {_value_text(held[1])}"
    elif "<locals>" in type(part).__qualname__:
        culprit += ", a class that is made inside a function"
    by_name = isinstance(error, pickle.PicklingError) or "local object" in str(error)
    cause = "" if by_name else f" ({type(error).__name__}: {error})"
    return (
        f"step {place!r} ({culprit}) cannot be stored{cause}: {_BY_NAME if by_name else _REBUILT}"
    )


def _culprit(pipeline: Any) -> tuple[str, Any]:
    """The innermost part that cannot be written, and its name as ``set_params`` takes it."""
    place, part = "", pipeline
    while True:
        inner = [
            (f"{place}__{name}".removeprefix("__"), child)
            for name, child in _parts(part)
            if not _can_be_written(child)
        ]
        if not inner:
            return place or type(pipeline).__name__, part
        place, part = inner[0]


def _parts(part: Any) -> list[tuple[str, Any]]:
    """The estimators inside an estimator: fitted ones where there are any."""
    named = [
        pair
        for attribute in (
            "transformers_",
            "steps",
            "transformers",
            "transformer_list",
            "estimators",
        )
        for pair in vars(part).get(attribute) or ()
        if isinstance(pair, tuple)
    ]
    parts = [(str(name), child) for name, child, *_ in named if hasattr(child, "get_params")]
    parts += [(name, child) for name, child in vars(part).items() if hasattr(child, "get_params")]
    return [(name, child) for name, child in parts if not isinstance(child, type)]


def _held(part: Any) -> tuple[str, Any] | None:
    """The attribute that cannot be written."""
    attributes = vars(part) if hasattr(part, "__dict__") else {}
    return next(((n, v) for n, v in attributes.items() if not _can_be_written(v)), None)


def _can_be_written(value: Any) -> bool:
    try:
        _written(value)
    except FOREIGN:  # whatever it says, it cannot
        return False
    return True


def _value_text(value: Any) -> str:
    if isinstance(value, (FunctionType, type)):
        inside = "<locals>" in value.__qualname__ and value.__name__ != "<lambda>"
        return f"{value.__name__}, made inside a function" if inside else value.__name__
    return f"of type {type(value).__name__}"


class _Canonical:
    """For a pickler in Python: one object for all equal strings, sets in order, no gaps."""

    def save(self, obj: Any, *args: Any, **kwargs: Any) -> None:
        if type(obj) is str or isinstance(obj, np.dtype):
            obj = self._first(obj)
        elif type(obj) is np.ndarray and obj.dtype.names and not obj.dtype.hasobject:
            obj = _without_gaps(obj)
        super().save(obj, *args, **kwargs)  # type: ignore[misc]

    def save_set(self, obj: Any) -> None:
        self.save_reduce(type(obj), (sorted(obj, key=repr),), obj=obj)  # type: ignore[attr-defined]

    def _first(self, value: Any) -> Any:
        """The first of all values that equal this one."""
        firsts: dict[Any, Any] = self.__dict__.setdefault("_seen", {})
        return firsts.setdefault((type(value), value), value)


def _as_by_pickle() -> dict[type, Any]:
    """How each type is written: as the standard library does it, whoever has changed its table."""
    standard: Any = pickle._Pickler  # noqa: SLF001
    own = {kind: save for kind, save in standard.dispatch.items() if save.__module__ == "pickle"}
    often_replaced = {
        dict: standard.save_dict,
        type: standard.save_type,
        FunctionType: standard.save_global,
    }
    sets = {set: _Canonical.save_set, frozenset: _Canonical.save_set}
    return own | often_replaced | sets


class _Nested(_Canonical, pickle._Pickler):  # noqa: SLF001
    """What an array of objects holds: joblib writes it as a pickle of its own."""

    dispatch: ClassVar[dict[type, Any]] = _as_by_pickle()


class _Pickler(_Canonical, NumpyPickler):  # type: ignore[misc]
    dispatch: ClassVar[dict[type, Any]] = _as_by_pickle()

    def save(self, obj: Any, *args: Any, **kwargs: Any) -> None:
        if type(obj) is np.ndarray and obj.dtype.hasobject:
            # As joblib does it, but for the pickler of what is inside.
            super().save(self._create_array_wrapper(obj))
            self.framer.commit_frame(force=True)
            _Nested(self.file_handle, protocol=5).dump(obj)
        else:
            super().save(obj, *args, **kwargs)


def _without_gaps(array: np.ndarray) -> np.ndarray:
    assert array.dtype.names is not None
    cleaned = np.zeros(array.shape, array.dtype)
    for name in array.dtype.names:
        cleaned[name] = array[name]
    return cleaned
