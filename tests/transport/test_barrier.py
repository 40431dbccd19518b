"""Tasks that talk to each other, here as threads with a stand-in for Spark's barrier."""

import hashlib
import os
import socket
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from types import SimpleNamespace

import numpy as np
import pyspark
import pytest

from mfspark.errors import TransportError
from mfspark.transport.barrier import Alone, Peers, _limit

SECRET = b"only these tasks know"


def ports_differ(ports):
    assert len(set(ports)) == len(ports)


class Stage:
    """Stands in for BarrierTaskContext in every thread."""

    def __init__(self, tasks, executors, before=ports_differ):
        self.tasks, self.executors, self.told, self.local = tasks, executors, {}, threading.local()
        self.barrier, self.before = threading.Barrier(tasks, timeout=20), before

    def get(self):
        return self

    def partitionId(self):
        return self.local.number

    def getTaskInfos(self):
        return [SimpleNamespace(address=f"127.0.0.1:{1234 + n % self.executors}") for n in range(self.tasks)]

    def allGather(self, message):
        self.told[self.local.number] = message
        self.barrier.wait()
        if self.local.number == 0:
            self.before([int(self.told[n]) for n in range(self.tasks)])
        return [self.told[n] for n in range(self.tasks)]


def run_tasks(monkeypatch, tasks, work, executors=2, before=ports_differ):
    stage = Stage(tasks, executors, before)
    monkeypatch.setattr(pyspark, "BarrierTaskContext", stage)

    def task(number):
        stage.local.number = number
        peers = Peers(SECRET)
        found = work(peers)
        peers.close()
        return found

    with ThreadPoolExecutor(tasks) as pool:
        return list(pool.map(task, range(tasks), timeout=30))


@pytest.mark.parametrize("executors", [1, 2])
@pytest.mark.parametrize("tasks", [2, 5])
def test_gathered_values_are_in_the_order_of_the_tasks(monkeypatch, tasks, executors):
    def work(peers):
        return [peers.gather((peers.number, turn)) for turn in range(3)]

    found = run_tasks(monkeypatch, tasks, work, executors)
    assert found == [[[(n, turn) for n in range(tasks)] for turn in range(3)]] * tasks


def test_everybody_sends_much_at_once_without_waiting_for_each_other(monkeypatch):
    array = np.arange(2_000_000, dtype=np.float32)

    def work(peers):
        for to in range(3):
            if to != peers.number:
                peers.send(to, ("items", peers.number), array + peers.number)
        peers.gather(None)
        return [peers.take(("items", n))[1] for n in reversed(range(3)) if n != peers.number]

    assert run_tasks(monkeypatch, 3, work) == [[3, 2], [3, 1], [2, 1]]


def test_a_stranger_is_not_let_in(monkeypatch):
    refused, knocked = [], []

    def knock(ports):
        def knocking():
            try:
                Client(("127.0.0.1", ports[0]), authkey=b"guessed")
            except (AuthenticationError, OSError, EOFError) as error:
                refused.append(error)

        thread = threading.Thread(target=knocking)
        thread.start()
        thread.join(0.2)
        knocked.append(thread)

    assert run_tasks(monkeypatch, 2, lambda peers: peers.gather(peers.number), before=knock) == [[0, 1], [0, 1]]
    knocked[0].join(10)
    assert len(refused) == 1


def test_tasks_of_one_executor_start_anew_where_a_killed_attempt_left_its_socket(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for number in range(2):
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(tmp_path / f"mfspark-{hashlib.sha256(SECRET).hexdigest()[:24]}-{number}"))
    assert run_tasks(monkeypatch, 2, lambda peers: peers.gather(peers.number), executors=1) == [[0, 1], [0, 1]]
    assert not list(tmp_path.iterdir())


def test_a_task_whose_peer_is_lost_fails_too(monkeypatch):
    def work(peers):
        if peers.number == 1:
            for peer in peers._peers.values():
                peer.close()
            peers.close = lambda: None
            return "lost"
        peers.close = lambda: None
        with pytest.raises((EOFError, OSError)):
            peers.gather(None)
        return "failed"

    assert run_tasks(monkeypatch, 2, work) == ["failed", "lost"]


@pytest.mark.parametrize(("executors", "number"), [(1, 0), (1, 1), (2, 0), (2, 1)])
def test_a_task_that_never_comes_is_named(monkeypatch, tmp_path, executors, number):
    """One of two tasks is there; over TCP the other one listens, but does not answer."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        stage = Stage(2, executors)
        stage.allGather = lambda port: [port if n == number else str(deaf.getsockname()[1]) for n in range(2)]
        stage.local.number = number
        monkeypatch.setattr(pyspark, "BarrierTaskContext", stage)
        with pytest.raises(
            TransportError, match=f"task {number} waited 0.3 s for a connection from task {1 - number} of 2"
        ):
            Peers(SECRET, patience=0.3)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("executors", [1, 2])
def test_a_task_that_falls_silent_is_named(monkeypatch, executors):
    all_done = threading.Barrier(3, timeout=20)

    def work(peers):
        peers.patience, peers.close = 0.3, lambda: None
        if peers.number != 2:
            with pytest.raises(
                TransportError, match=f"task {peers.number} waited 0.3 s for a message from task 2 of 3"
            ):
                peers.gather(None)
        all_done.wait()
        if peers.number == 0:
            with pytest.raises(TransportError, match="from tasks 1, 2 of 3"):
                peers.take("something")
        all_done.wait()

    run_tasks(monkeypatch, 3, work, executors)


def test_a_task_that_stops_within_a_message_is_named(monkeypatch):
    over = threading.Event()

    def work(peers):
        peers.close = lambda: None
        (peer,) = peers._peers.values()
        if peers.number == 1:
            os.write(peer.fileno(), (1000).to_bytes(4, "big") + b"not all")
            over.wait(20)
        else:
            _limit(peer, 0.3)
            with pytest.raises(TransportError, match="for the rest of a message from task 1 of 2"):
                peers.take("anything")
            over.set()

    run_tasks(monkeypatch, 2, work)


def test_alone():
    solo = Alone()
    assert solo.gather(3) == [3] and (solo.number, solo.size) == (0, 1)
    with pytest.raises(RuntimeError):
        solo.send(1, "key", 3)
    solo.close()
