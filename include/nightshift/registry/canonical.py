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

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


def to_bytes(pipeline: Pipeline) -> bytes:
    """What joblib reads back; equal for equal pipelines."""
    buffer = io.BytesIO()
    _Pickler(buffer).dump(pipeline)
    return buffer.getvalue()


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
        seen: dict[Any, Any] = self.__dict__.setdefault("_seen", {})
        return seen.setdefault((type(value), value), value)


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
