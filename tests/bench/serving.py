"""LocalModel's time for one recommendation, and the example service's requests a second, beside ``implicit``.

``python tests/bench/serving.py [--items 17770 1000000] [--rank 64] [--seconds 5]`` prints one JSON line for each.
``implicit`` is served by the same FastAPI and uvicorn, with the same factors and as few lines (``peer_app``).
"""

import argparse
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix

from mfspark import LocalModel
from mfspark.kernels.objective import Settings
from mfspark.model.factorization import Factorization

ROOT = Path(__file__).resolve().parent.parent.parent
USERS = 20_000


def random_model(items, rank):
    rng, settings = np.random.default_rng(0), Settings(rank=rank, implicit=True)
    sides = [np.zeros((n, settings.padded), np.float32) for n in (USERS, items)]
    for side in sides:
        side[:, :rank] = rng.normal(0, 0.1, (len(side), rank))
    ids = [pa.array(np.arange(n)) for n in (USERS, items)]
    return LocalModel(Factorization(settings, tuple(ids), tuple(sides)))


def percentiles(ask, seconds):
    """Return p50, p99 in milliseconds, and how many calls a second."""
    for user in range(20):
        ask(user)
    times, user, stop = [], 0, time.perf_counter() + seconds
    while time.perf_counter() < stop:
        start = time.perf_counter()
        ask(user)
        times.append(time.perf_counter() - start)
        user = (user + 1) % USERS
    p50, p99 = np.percentile(times, [50, 99]) * 1e3
    return {"p50_ms": round(p50, 3), "p99_ms": round(p99, 3), "per_second": round(1 / np.mean(times))}


def one_call(model, seconds):
    """Time LocalModel, and implicit on the same factors."""
    yield "mfspark recommend(k=10)", percentiles(lambda user: model.recommend(user, 10), seconds)
    rated = {item: 1.0 for item in range(50)}
    yield "mfspark recommend_for, 50 ratings", percentiles(lambda _: model.recommend_for(rated, 10), seconds)
    if find_spec("implicit"):
        yield "implicit recommend(N=10)", percentiles(peer(*(model.fitted.features(side) for side in (0, 1))), seconds)


def peer(users, items):
    """Return implicit's recommend(N=10) of a user, for given factors."""
    from implicit.cpu.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(factors=users.shape[1])
    model.user_factors, model.item_factors = users, items
    none = csr_matrix((1, len(items)), dtype=np.float32)
    return lambda user: model.recommend(user, none, N=10, filter_already_liked_items=False)


def peer_app():
    """Return the application that serves implicit as ``notebooks/serve.py`` serves a published model."""
    from fastapi import FastAPI

    app = FastAPI()
    recommended = peer(*np.load(Path(os.environ["MFSPARK_STORE"]) / "factors.npz").values())

    @app.get("/recommend/{user}")
    async def recommend(user: int) -> dict:
        ids, scores = recommended(user)
        return {"items": [{"id": id, "score": score} for id, score in zip(ids.tolist(), scores.tolist(), strict=True)]}

    return app


def publish(model, folder, version=1):
    """Write a store as a registry does, without Spark, and the factors for implicit."""
    sys.path.insert(0, str(ROOT / "tests" / "model"))
    from test_serving import publish as write

    write(Path(folder), model.fitted, version)
    np.savez(Path(folder) / "factors.npz", *(model.fitted.features(side) for side in (0, 1)))


SERVICES = {
    "mfspark service": ["--app-dir", str(ROOT / "notebooks"), "serve:app"],
    "implicit service": ["--app-dir", str(Path(__file__).parent), "--factory", "serving:peer_app"],
}


def service(arguments, folder, seconds, clients, change=None):
    """Return how many requests a second an application answers from some clients that ask one after another.

    Half-way ``change`` publishes a new version; a request that fails ends the benchmark.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "MFSPARK_STORE": folder,
        "MFSPARK_REFRESH_SECONDS": "60" if change is None else "0.2",
        "PYTHONPATH": str(ROOT),
        "OPENBLAS_NUM_THREADS": "1",
    }
    options = ["--port", str(port), "--log-level", "warning", "--workers", "2", *arguments]
    with subprocess.Popen([sys.executable, "-m", "uvicorn", *options], env=environment) as process:
        try:
            wait(port)
            return load(port, seconds, clients, change)
        finally:
            process.terminate()


def wait(port):
    for _ in range(600):
        try:
            ask(http.client.HTTPConnection("127.0.0.1", port), 0)
            return
        except OSError:
            time.sleep(0.1)


def ask(connection, user):
    connection.request("GET", f"/recommend/{user}?k=10")
    answer = connection.getresponse()
    found = json.loads(answer.read())
    assert answer.status == 200 and len(found["items"]) == 10
    return found.get("version")


def load(port, seconds, clients, change):
    times, versions, failed, stop = [], set(), [], time.perf_counter() + seconds

    def client(number):
        connection, user = http.client.HTTPConnection("127.0.0.1", port), number
        while time.perf_counter() < stop:
            start = time.perf_counter()
            try:
                versions.add(ask(connection, user))
            except Exception as error:
                failed.append(error)
                return
            times.append(time.perf_counter() - start)
            user = (user + clients) % USERS

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    if change is not None:
        time.sleep(seconds / 2)
        change()
    for thread in threads:
        thread.join()
    if failed:
        raise SystemExit(f"{len(failed)} clients failed, such as by {failed[0]!r}")
    p50, p99 = np.percentile(times, [50, 99]) * 1e3
    figures = {"p50_ms": round(p50, 3), "p99_ms": round(p99, 3), "per_second": round(len(times) / seconds)}
    return figures | ({} if change is None else {"versions": sorted(versions)})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[17_770, 1_000_000])
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--service", type=int, default=17_770, help="items of the service; 0: no service")
    given = parser.parse_args()
    for items in given.items:
        for name, found in one_call(random_model(items, given.rank), given.seconds):
            print(json.dumps({"what": name, "items": items, "rank": given.rank} | found), flush=True)  # noqa: T201
    if given.service:
        with tempfile.TemporaryDirectory() as folder:
            model = random_model(given.service, given.rank)
            publish(model, folder)
            for name, arguments in SERVICES.items():
                if name == "implicit service" and not find_spec("implicit"):
                    continue
                found = service(arguments, folder, given.seconds, given.clients)
                if name == "mfspark service":
                    again = service(arguments, folder, given.seconds, given.clients, lambda: publish(model, folder, 2))
                    print(json.dumps({"what": "the same, a version published half-way"} | again))  # noqa: T201
                print(json.dumps({"what": name, "items": given.service, "rank": given.rank} | found))  # noqa: T201


if __name__ == "__main__":
    main()
