"""A model in files, read without Spark: a published version, a folder that Spark saved, and one that is mapped.

A mapped folder holds ``model.json`` and for each side its array and its ids, which are used where they lie in the file:
the processes of one machine share them, and nothing is read before it is asked for.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mfspark.errors import StoreError
from mfspark.kernels.csr import Side
from mfspark.model.described import description, limits_from, mean_from, settings_from, side_from
from mfspark.model.factorization import Factorization
from mfspark.store.reader import Reader

Options = Mapping[str, str]
MAPPED, SAVED = "model.json", "metadata"
POPULAR = "popular"
TABLES = (*(f"{side.stem}_factors" for side in Side), POPULAR)


class Found(NamedTuple):
    """A model that was read: its numbers, the class that it had, and its version in a registry.

    Parameters
    ----------
    fitted : Factorization
        The numbers.
    kind : str
        The class.
    version : list of int and str, or None
        The version's number and its attempt.
    popular : pa.Table or None
        The popular items (span, place, id, ratings), where it is known what is popular.
    """

    fitted: Factorization
    kind: str
    version: list[Any] | None
    popular: pa.Table | None


def read(path: str, version: int | str | None, storage_options: Mapping[str, str] | None) -> Found:
    """Return the model at a path, whatever kept it there.

    Raises
    ------
    StoreError
        There is no model, or a version was asked for where there are none.
    """
    path = path.rstrip("/")
    if "://" not in path and os.path.exists(path):
        kinds = [name for name in (MAPPED, SAVED) if os.path.exists(os.path.join(path, name))]
        if kinds and version is not None:
            raise StoreError(f"{path} holds one model, which has no versions: leave the version out")
        if kinds:
            return (_read_mapped if kinds[0] == MAPPED else _read_saved)(path)
    return published(Reader(path, storage_options), version)


def published(reader: Reader, version: int | str | None) -> Found:
    """Return a published model; one that a re-run replaces meanwhile is read again."""
    while True:
        model = reader.get(version)
        try:
            tables = reader.read(model, TABLES)
        except StoreError:
            if reader.get(version).attempt == model.attempt:
                raise
            continue
        stored = model.parameters.get("model", model.parameters)
        kind = stored.get("class", "FactorizationModel")
        return Found(_fitted(tables, stored), kind, [model.version, model.attempt], tables.get(POPULAR))


def _read_saved(path: str) -> Found:
    """Return what ``FactorizationModel.save`` wrote."""
    import pyarrow.parquet as pq

    try:
        metadata = json.loads(_text(os.path.join(path, SAVED)))
    except ValueError as error:
        raise StoreError(f"{path} has no saved model") from error
    kind = str(metadata.get("class", "")).split(".")[-1]
    if not {f"{side.stem}_factors" for side in Side} <= set(metadata.get("tables", ())):
        raise StoreError(f"{path} has a saved {kind}, not a model of mfspark: give the folder of a FactorizationModel")
    folder = os.path.join(path, metadata["slot"])
    kept = [name for name in TABLES if name in metadata["tables"]]
    tables = {name: pq.read_table(os.path.join(folder, name)) for name in kept}
    return Found(_fitted(tables, metadata["parameters"]), kind, None, tables.get(POPULAR))


def _text(folder: str) -> str:
    parts = [name for name in sorted(os.listdir(folder)) if name[0] not in "._"]
    return "".join(Path(folder, name).read_text(encoding="utf-8") for name in parts)


def _fitted(tables: Mapping[str, pa.Table], stored: dict[str, Any]) -> Factorization:
    settings = settings_from(stored)
    names = [f"{side.stem}_factors" for side in Side]
    users, items = (side_from(tables[name], name, settings, side) for name, side in zip(names, Side, strict=True))
    ids, sides = (users[0], items[0]), (users[1], items[1])
    return Factorization(settings, ids, sides, stored["intercept"], limits_from(stored), mean_from(stored))


def _read_mapped(path: str) -> Found:
    """Return what ``write_mapped`` wrote, its arrays and ids lying in the mapped files."""
    stored = json.loads(Path(path, MAPPED).read_text(encoding="utf-8"))
    ids, sides = [], []
    for side in Side:
        table = pa.ipc.open_file(pa.memory_map(os.path.join(path, f"{side.stem}_ids.arrow"))).read_all()
        ids.append(table.column("id").chunk(0))
        sides.append(np.asarray(np.load(os.path.join(path, f"{side.stem}.npy"), mmap_mode="r")))
    both = (ids[0], ids[1]), (sides[0], sides[1])
    fitted = Factorization(settings_from(stored), *both, stored["intercept"], limits_from(stored), mean_from(stored))
    popular = os.path.join(path, f"{POPULAR}.arrow")
    listed = pa.ipc.open_file(popular).read_all() if os.path.exists(popular) else None
    return Found(fitted, stored["class"], stored["version"], listed)


def write_mapped(found: Found, path: str) -> None:
    """Write a folder that is mapped, which appears as a whole.

    Raises
    ------
    StoreError
        Something exists at the path.
    """
    if os.path.exists(path):
        raise StoreError(f"path {path} already exists: choose another one, or remove it")
    fitted, parent = found.fitted, os.path.dirname(os.path.abspath(path))
    os.makedirs(parent, exist_ok=True)
    made = tempfile.mkdtemp(dir=parent, prefix=".writing-")
    try:
        for side in Side:
            np.save(os.path.join(made, f"{side.stem}.npy"), fitted.sides[side])
            _write(pa.record_batch({"id": fitted.ids[side]}), made, f"{side.stem}_ids")
        if found.popular is not None:
            _write(found.popular, made, POPULAR)
        stored = {"class": found.kind, "version": found.version} | description(fitted)
        Path(made, MAPPED).write_text(json.dumps(stored), encoding="utf-8")
        os.chmod(made, 0o755)
        os.rename(made, path)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _write(rows: pa.RecordBatch | pa.Table, folder: str, name: str) -> None:
    with pa.ipc.new_file(os.path.join(folder, f"{name}.arrow"), rows.schema) as file:
        file.write(rows)
