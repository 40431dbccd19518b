"""Tasks of one barrier stage that talk to each other: Spark starts them together, they exchange arrays directly.

As xgboost.spark and Horovod do, a barrier stage only brings the tasks together; data then goes from task to task over
sockets, not through the driver. If one task fails, Spark runs the whole stage again from its input, so a gang's work
counts wholly or not at all.
"""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
import time
from collections.abc import Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, wait
from typing import Any, cast

_BYE = "bye"  # a task's last word: that it then hangs up is no failure


class Solo:
    """A gang of one."""

    number, size = 0, 1

    def gather(self, value: Any) -> list[Any]:
        """Return the values that all tasks gave, in the order of the tasks."""
        return [value]

    def send(self, to: int, key: Hashable, value: Any) -> None:  # noqa: ARG002
        """Send a value to another task, which takes it by its key."""
        raise RuntimeError("a gang of one has nobody to send to")

    def take(self, key: Hashable) -> Any:  # noqa: ARG002
        """Return the value another task sent under a key, waiting for it."""
        raise RuntimeError("a gang of one has nobody to take from")

    def close(self) -> None:
        """Finish sending, and hang up."""


class Gang(Solo):
    """The tasks of this task's barrier stage, each connected with each.

    Parameters
    ----------
    secret : bytes
        Known to the tasks of this stage only: who does not have it cannot connect.
    """

    def __init__(self, secret: bytes) -> None:
        from pyspark import BarrierTaskContext

        context = BarrierTaskContext.get()
        own = context.partitionId()
        executors = [info.address for info in context.getTaskInfos()]
        self.number, self.size = own, len(executors)
        if len(set(executors)) == 1 and hasattr(socket, "AF_UNIX"):
            self._connect_here(secret)
        else:
            self._connect([address.rsplit(":", 1)[0] for address in executors], secret, context)
        self._heard = list(self._peers.values())
        self._inbox: dict[Hashable, Any] = {}
        self._rounds = 0
        # Sending in a thread: two tasks that send to each other at once would both wait for a reader.
        self._sender = ThreadPoolExecutor(1)
        self._sent: list[Future[None]] = []

    def _connect(self, hosts: list[str], secret: bytes, context: Any) -> None:
        """Connect with tasks on other machines: everybody listens, and tells all others the port through Spark."""
        with _listen(hosts[self.number], self.size, secret) as listener:
            ports = [int(port) for port in context.allGather(str(listener.address[1]))]
            self._peers = {other: _call((hosts[other], ports[other]), secret, self) for other in range(self.number)}
            self._answer_all(listener)

    def _connect_here(self, secret: bytes) -> None:
        """Connect with tasks of the same executor by sockets of known names: Spark's exchange waits a whole second."""
        name = hashlib.sha256(secret).hexdigest()[:24]
        paths = [os.path.join(tempfile.gettempdir(), f"mfspark-{name}-{number}") for number in range(self.size)]
        if os.path.exists(paths[self.number]):  # left by a failed attempt
            os.unlink(paths[self.number])
        with Listener(paths[self.number], backlog=self.size, authkey=secret) as listener:
            self._peers = {other: _call_when_there(paths[other], secret, self) for other in range(self.number)}
            self._answer_all(listener)

    def _answer_all(self, listener: Listener) -> None:
        while len(self._peers) < self.size - 1:
            self._answer(listener)

    def _answer(self, listener: Listener) -> None:
        try:
            peer = listener.accept()
        except (AuthenticationError, OSError, EOFError):
            return  # somebody else's connection
        _at_once(peer)
        self._peers[peer.recv()] = peer

    def gather(self, value: Any) -> list[Any]:
        """Return the values that all tasks gave, in the order of the tasks."""
        self._rounds += 1
        for to in self._peers:
            self.send(to, ("gather", self._rounds, self.number), value)
        numbers = range(self.size)
        return [value if n == self.number else self.take(("gather", self._rounds, n)) for n in numbers]

    def send(self, to: int, key: Hashable, value: Any) -> None:
        """Send a value to another task, which takes it by its key."""
        self._sent = [future for future in self._sent if not future.done() or future.result()]
        self._sent.append(self._sender.submit(self._peers[to].send, (key, value)))

    def take(self, key: Hashable) -> Any:
        """Return the value another task sent under a key, waiting for it.

        Raises
        ------
        EOFError
            The other task has gone, so that this one must fail too.
        """
        while key not in self._inbox:
            for ready in wait(self._heard):
                peer = cast("Connection", ready)
                name, value = peer.recv()
                self._inbox[name] = value
                if isinstance(name, tuple) and name[0] == _BYE:
                    self._heard.remove(peer)
        return self._inbox.pop(key)

    def close(self) -> None:
        """Finish sending, and hang up once all have finished."""
        for to in self._peers:
            self.send(to, (_BYE, self.number), None)
        for other in self._peers:
            self.take((_BYE, other))
        self._sender.shutdown(wait=True)
        for future in self._sent:
            future.result()
        for peer in self._peers.values():
            peer.close()


def _listen(host: str, size: int, secret: bytes) -> Listener:
    try:
        return Listener((host, 0), backlog=size, authkey=secret)
    except OSError:  # the address others use need not be one of this machine's own
        return Listener(("", 0), backlog=size, authkey=secret)


def _call(address: tuple[str, int] | str, secret: bytes, gang: Gang) -> Connection:
    peer = Client(address, authkey=secret)
    _at_once(peer)
    peer.send(gang.number)
    return peer


def _call_when_there(path: str, secret: bytes, gang: Gang) -> Connection:
    """Connect with a task that may not listen yet; Spark ends this one if the other never will."""
    while True:
        try:
            return _call(path, secret, gang)
        except (FileNotFoundError, ConnectionError, EOFError):
            time.sleep(0.005)


def _at_once(peer: Connection) -> None:
    """Send small messages at once instead of collecting them (Nagle)."""
    with socket.socket(fileno=os.dup(peer.fileno())) as end:
        if end.family in (socket.AF_INET, socket.AF_INET6):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
