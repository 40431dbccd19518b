"""Checkpoints of a fit: every so many iterations its state is stored, and a fit that was killed goes on from there.

What a checkpoint is: the state's parts (``Resumable``), the lines of the history, and a *fingerprint* of all that the
numbers depend on (ratings, parameters, seed). A fit goes on from the newest checkpoint that is whole and has its own
fingerprint; every other one is ignored, and a line says why. Where and how parts are kept is the storage's business
(``store.checkpoints`` keeps them in Delta), which is handed in.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from mfspark.training.history import Iteration
from mfspark.training.progress import LOGGER

FORMAT = 1
"""The form of what is stored; a checkpoint of another form is ignored."""


class Resumable(Protocol):
    """A state that can be stored and restored."""

    def parts(self) -> dict[str, Any]:
        """Return all that changes from iteration to iteration, by name: arrays, DataFrames, and what JSON can hold."""

    def restore(self, parts: Mapping[str, Any]) -> None:
        """Become the state whose ``parts`` these are; the arrays are this state's own from now on."""


class Storage(Protocol):
    """Where the checkpoints of one fit are kept: the newest two."""

    address: str

    def headers(self) -> dict[int, str]:
        """Return the header of every whole checkpoint, by its iteration."""

    def read(self, iteration: int, names: Sequence[str]) -> dict[str, bytearray]:
        """Return arrays of a checkpoint."""

    def frame(self, iteration: int, name: str) -> DataFrame:
        """Return a frame of a checkpoint, computed anew from what is stored."""

    def write(
        self, iteration: int, header: str, arrays: Mapping[str, NDArray[Any]], frames: Mapping[str, DataFrame]
    ) -> None:
        """Store a checkpoint: it is there wholly or not at all, whenever the process ends; older ones than two go."""

    def remove(self) -> None:
        """Remove all checkpoints of the fit."""


class _Found(NamedTuple):
    """A checkpoint that fits: its parts and its lines."""

    parts: dict[str, Any]
    lines: list[Iteration]


class Checkpoints:
    """The checkpoints of one fit; the object itself is the loop's ``keep``.

    Parameters
    ----------
    storage : Storage, optional
        Where they are kept; None: nothing is.
    interval : int
        Iterations between two.
    fingerprint : mapping of str to str or number
        All that the fit's numbers depend on. Names and values are shown where they differ.
    stage : str
        What is under way, such as the estimator's name.
    """

    def __init__(
        self, storage: Storage | None, interval: int = -1, fingerprint: Mapping[str, Any] | None = None, stage: str = ""
    ) -> None:
        self.storage, self.interval, self.stage = storage, interval, stage
        self.fingerprint: dict[str, Any] = json.loads(json.dumps(dict(fingerprint or {})))
        self._found: _Found | None = None
        self._stale = True  # what is stored belongs to another fit, or is broken
        self.look()

    @property
    def active(self) -> bool:
        """Whether anything is stored."""
        return self.storage is not None

    @property
    def found(self) -> bool:
        """Whether there is a checkpoint to go on from: then ``resume`` restores it."""
        return self._found is not None

    def look(self) -> None:
        """Look for a checkpoint once more: a fit that begins again goes on from the last one it stored."""
        if self.storage is not None:
            self._found = self._newest(self.storage)
            self._stale = self._found is None

    def resume(self, state: Resumable) -> list[Iteration]:
        """Restore the state of the newest checkpoint, where there is one, and return its lines; else none."""
        if self._found is None:
            return []
        (parts, lines), self._found = self._found, None
        state.restore(parts)
        LOGGER.info(f"{self.stage}  resumed after iteration {len(lines)}, from {self._address}")
        return lines

    def pause(self, done: int, total: int) -> int:
        """Return after which iteration a stage must end that holds the state, where ``done`` are done."""
        return min(total, (done // self.interval + 1) * self.interval) if self.active else total

    def __call__(self, lines: Sequence[Iteration], state: Resumable) -> None:
        """Store the state where it is its turn. A state that cannot be stored is told of, and the fit goes on."""
        if self.storage is None or len(lines) % self.interval:
            return
        try:
            if self._stale:
                self.storage.remove()
            self._stale = False
            self._write(self.storage, lines, state.parts())
        except Exception as error:  # noqa: BLE001 - whatever a store may raise: the fit itself is whole
            LOGGER.warning(
                f"{self.stage}: no checkpoint of iteration {len(lines)} in {self._address} ({_short(error)}): "
                "the fit goes on without it"
            )

    def remove(self) -> None:
        """Remove what is stored: the fit has ended."""
        if self.storage is not None:
            self.storage.remove()

    @property
    def _address(self) -> str:
        return "" if self.storage is None else self.storage.address

    def _write(self, storage: Storage, lines: Sequence[Iteration], parts: Mapping[str, Any]) -> None:
        arrays = {name: np.ascontiguousarray(part) for name, part in parts.items() if isinstance(part, np.ndarray)}
        values = {name: part for name, part in parts.items() if not isinstance(part, np.ndarray) and not _framed(part)}
        frames = {name: part for name, part in parts.items() if _framed(part)}
        header = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "lines": [astuple(line) for line in lines],
            "values": values,
            "arrays": {name: [part.dtype.str, part.shape, zlib.crc32(part.data)] for name, part in arrays.items()},
            "frames": list(frames),
        }
        storage.write(len(lines), json.dumps(header), arrays, frames)

    def _newest(self, storage: Storage) -> _Found | None:
        """Return the newest checkpoint that fits, or None, having said of others why they are ignored."""
        try:
            headers = storage.headers()
        except Exception as error:  # noqa: BLE001 - whatever may have happened to them
            self._ignore("what is stored", _short(error))
            return None
        for iteration in sorted(headers, reverse=True):
            what = f"the checkpoint of iteration {iteration}"
            try:
                header = json.loads(headers[iteration])
                differs = self._difference(header)
                if differs:
                    self._ignore(what, differs)
                    continue
                return _read(storage, iteration, header)
            except Exception as error:  # noqa: BLE001 - the one before may be whole
                self._ignore(what, _short(error))
        return None

    def _difference(self, header: Mapping[str, Any]) -> str:
        """Return in what a checkpoint is another fit's; "" for one of this fit."""
        if header["format"] != FORMAT:
            return f"it was stored in form {header['format']}, this is {FORMAT}"
        then, now = header["fingerprint"], self.fingerprint
        names = [name for name in {**then, **now} if then.get(name) != now.get(name)]
        return ", ".join(f"{name} was {then.get(name)} and is {now.get(name)}" for name in names[:3])

    def _ignore(self, what: str, why: str) -> None:
        LOGGER.warning(f"{self.stage}: {what} in {self._address} is ignored: {why}")


def key_of(fingerprint: Mapping[str, Any]) -> str:
    """Return a fingerprint as 16 letters, to name a place by."""
    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()[:16]


NEVER = Checkpoints(None)
"""No checkpoints: nothing is looked for, nothing is stored."""


def _read(storage: Storage, iteration: int, header: Mapping[str, Any]) -> _Found:
    data = storage.read(iteration, list(header["arrays"]))
    parts: dict[str, Any] = dict(header["values"])
    for name, (kind, shape, check) in header["arrays"].items():
        if zlib.crc32(data[name]) != check:
            raise ValueError(f"its array {name!r} is damaged")
        parts[name] = np.frombuffer(data[name], np.dtype(kind)).reshape(shape)
    parts |= {name: storage.frame(iteration, name) for name in header["frames"]}
    return _Found(parts, [Iteration(*line) for line in header["lines"]])


def _framed(part: Any) -> bool:
    return isinstance(part, DataFrame)


def _short(error: BaseException) -> str:
    """Return an error's first line."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no more is known'}"
