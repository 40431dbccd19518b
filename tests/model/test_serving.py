"""A store read without Spark, its newest version taken up under load, and the example service of ``notebooks/``."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from test_local import ITEMS, RANK, ROOT, fitted, table_of_scores

from mfspark import LocalModel, Serving, SetupError, StoreError
from mfspark.kernels.csr import Side
from mfspark.model.described import description
from mfspark.store import reader
from mfspark.store.standing import ALIASES, Alias, Change, Mark

deltalake = pytest.importorskip("deltalake")


def publish(store, one, version, attempt="a", popular=()):
    """Write a version as ``Registry.publish`` does, but without Spark (the contract of every model reads Spark's)."""
    for side in Side:
        n, bias = len(one.ids[side]), one.bias(side)
        order = np.random.default_rng(version).permutation(n)
        rows = pa.table(
            {
                "run_id": [f"run-{version}"] * n,
                "attempt": [attempt] * n,
                "id": one.ids[side].take(pa.array(order)),
                "features": pa.array(list(one.features(side)[order]), pa.list_(pa.float32())),
                "bias": pa.nulls(n, pa.float32()) if bias is None else pa.array(bias[order]),
            }
        )
        address = str(store / f"{side.stem}_factors")
        deltalake.write_deltalake(address, rows, mode="append", partition_by=["run_id", "attempt"])
    if popular:
        known = [(f"run-{version}", attempt, "all", place, *one) for place, one in enumerate(popular, 1)]
        names = ("run_id", "attempt", "span", "place", "id", "ratings")
        rows = pa.table([pa.array(column) for column in zip(*known, strict=True)], names=names)
        address = str(store / "popular")
        deltalake.write_deltalake(address, rows, mode="append", partition_by=["run_id", "attempt"])
    row = {"version": version, "run_id": f"run-{version}", "attempt": attempt, "created_at": datetime.now(UTC)}
    row |= {"parameters": json.dumps({"model": description(one)}), "metrics": "{}"}
    models = str(store / "models")
    if deltalake.DeltaTable.is_deltatable(models):
        deltalake.DeltaTable(models).delete(f"version = {version}")
    deltalake.write_deltalake(models, pa.Table.from_pylist([row]), mode="append")


def test_a_store_is_read_version_by_version(tmp_path):
    store, versions = tmp_path / "store", [fitted(seed, texts=True, bias=(True, True)) for seed in (1, 2)]
    with pytest.raises(StoreError, match="^no model has been published in"):
        LocalModel.load(str(store))
    for number, one in enumerate(versions, 1):
        publish(store, one, number)
    assert [model.version for model in (LocalModel.load(str(store)), LocalModel.load(str(store), 1))] == [2, 1]
    for number, one in enumerate(versions, 1):
        model = LocalModel.load(str(store), number)
        assert model.fitted.settings == one.settings and model.fitted.ids[0].equals(one.ids[0])
        for side in Side:
            np.testing.assert_array_equal(model.fitted.sides[side], one.sides[side])
    with pytest.raises(StoreError, match=r"^no model of version 3 in .*; published versions: 1 .*, 2 \(run run-2\)$"):
        LocalModel.load(str(store), 3)
    old = LocalModel.load(str(store), 1)
    assert old.refreshed().version == 2 and repr(old).startswith("LocalModel: version 1, rank=4, 30 users")
    newest = old.refreshed()
    assert newest.refreshed() is newest


def point(store, version):
    """Let the alias champion point at a version, as ``Registry.promote`` does (tests/store/test_aliases.py)."""
    change = Change(version, "a", "2026-01-01T00:00:00+00:00", "promote")
    rows = [Alias("champion", version, (version,), (change,)).row(), Mark(9, "a", "run-9", "2026", True).row()]
    table = pa.Table.from_pylist([dict(zip(ALIASES, row, strict=True)) for row in rows])
    deltalake.write_deltalake(str(store / "aliases"), table, mode="overwrite")


def test_an_alias_is_followed_forth_and_back(tmp_path):
    publish(tmp_path, fitted(1), 1)
    with pytest.raises(StoreError, match="no alias 'champion' in .*; no version has been promoted yet"):
        LocalModel.load(str(tmp_path), "champion")
    point(tmp_path, 1)
    publish(tmp_path, fitted(2), 2)
    with Serving(str(tmp_path), version="champion") as serving:
        assert serving.model.version == 1 and serving.refresh() is False
        for version in (2, 1):
            point(tmp_path, version)
            assert serving.refresh() is True and serving.model.version == version
    assert LocalModel.load(str(tmp_path), "latest").version == LocalModel.load(str(tmp_path), "2").version == 2
    with pytest.raises(StoreError, match=r"no alias 'next' in .*; aliases: champion \(version 1\)$"):
        LocalModel.load(str(tmp_path), "next")
    with pytest.raises(StoreError, match=r"^version 9 \(run run-9\) in .* was retired at 2026; published versions: 1 "):
        LocalModel.load(str(tmp_path), 9)


def test_a_model_replaced_by_a_re_run_is_read_again(tmp_path, monkeypatch):
    publish(tmp_path, fitted(1), 1)
    plain = reader.Reader.read

    def replaced_meanwhile(self, model, names):
        if model.attempt == "a":
            publish(tmp_path, fitted(2), 1, attempt="b")
        return plain(self, model, names)

    monkeypatch.setattr(reader.Reader, "read", replaced_meanwhile)
    model = LocalModel.load(str(tmp_path))
    np.testing.assert_array_equal(model.fitted.sides[1], fitted(2).sides[1])


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(SetupError, match=r"pip install mfspark\[serve\]$"):
        LocalModel.load(str(tmp_path))


def test_a_new_version_is_taken_up_and_no_request_fails(tmp_path):
    known = [fitted(seed) for seed in range(4)]
    publish(tmp_path, known[0], 1)
    answers = [[scored.id for scored in LocalModel(one).recommend(104, 5)] for one in known]
    failures, seen, done = [], set(), threading.Event()

    def ask(serving):
        while not done.is_set():
            try:
                model = serving.model
                version, found = model.version, [scored.id for scored in model.recommend(104, 5)]
                seen.add(version)
                if found != answers[version - 1]:
                    failures.append((version, found))
            except Exception as error:
                failures.append(error)

    with Serving(str(tmp_path), every=0.01) as serving:
        threads = [threading.Thread(target=ask, args=(serving,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for version in (2, 3, 4):
            publish(tmp_path, known[version - 1], version)
            deadline = time.time() + 30
            while version not in seen and time.time() < deadline:
                time.sleep(0.01)
        done.set()
        for thread in threads:
            thread.join()
    assert failures == [] and seen == {1, 2, 3, 4}
    assert serving.refresh() is False and serving.model.version == 4


def test_a_store_that_is_away_leaves_the_model(tmp_path, caplog):
    publish(tmp_path / "store", fitted(), 1)
    with Serving(str(tmp_path / "store"), every=0.01) as serving:
        (tmp_path / "store").rename(tmp_path / "away")
        deadline = time.time() + 30
        while "cannot be read" not in caplog.text and time.time() < deadline:
            time.sleep(0.01)
        assert "the newest model cannot be read, serving LocalModel: version 1" in caplog.text
        assert len(serving.model.recommend(100, 3)) == 3


@pytest.fixture
def service(tmp_path):
    """Start the example as its docstring says, and return its address."""
    pytest.importorskip("fastapi")
    publish(tmp_path, fitted(), 1, popular=[(102, 9), (100, 8), (106, 8)])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(ROOT / "notebooks"), "--port", str(port), "serve:app"]
    environment = os.environ | {
        "MFSPARK_STORE": str(tmp_path),
        "MFSPARK_REFRESH_SECONDS": "0.1",
        "PYTHONPATH": str(ROOT),
    }
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "Uvicorn running" in line:
                break
        else:
            pytest.fail("the service did not start")
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield f"http://127.0.0.1:{port}", tmp_path
        process.terminate()


def call(address, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_the_example_service_answers_and_takes_up_a_new_version(service):
    address, store = service
    order = [100 + 2 * int(i) for i in np.argsort(-table_of_scores(fitted())[3])]
    found = call(f"{address}/recommend/106?k=3&deny={order[1]}&deny=7")
    assert found["version"] == 1 and [one["id"] for one in found["items"]] == [order[0], *order[2:4]]
    ratings = {100: 5.0, 104: 1.0}
    ref = LocalModel(fitted()).recommend_for(ratings, 4)
    found = call(f"{address}/visitors", {"ratings": {str(item): rating for item, rating in ratings.items()}, "k": 4})
    assert [(one["id"], one["score"]) for one in found["items"]] == [tuple(one) for one in ref]
    for path, body, code in (("recommend/101", None, 404), ("visitors", {"ratings": {"x": 1}}, 422)):
        with pytest.raises(urllib.error.HTTPError) as error:
            call(f"{address}/{path}", body)
        assert error.value.code == code
    found = call(f"{address}/recommend/101?k=2&popular=true&deny=100")["items"]
    assert found == [{"id": 102, "score": 9.0}, {"id": 106, "score": 8.0}]
    publish(store, fitted(5), 2)
    deadline = time.time() + 30
    while call(f"{address}/recommend/106")["version"] == 1 and time.time() < deadline:
        time.sleep(0.05)
    with pytest.raises(urllib.error.HTTPError) as error:
        call(f"{address}/recommend/101?popular=true")
    assert error.value.code == 422 and "no popular items" in json.load(error.value)["detail"]
    found = call(f"{address}/recommend/106?k={ITEMS}")
    assert found["version"] == 2 and len(found["items"]) == ITEMS and RANK == 4
