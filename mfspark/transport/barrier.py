"""Tasks of one barrier stage that talk to each other: Spark starts them together, they exchange arrays directly.

As xgboost.spark and Horovod do, a barrier stage only brings the tasks together; data then goes from task to task over
sockets, not through the driver. If one task fails, Spark runs the whole stage again from its input, so its work
counts wholly or not at all. No wait is without end: a task that hears nothing fails, and says whom it waited for.
"""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import tempfile
import time
from collections.abc import Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge, wait
from typing import Any, cast

from mfspark.errors import TransportError

PATIENCE = 1800.0
"""Seconds that a task waits for another one: longer than the work that one task may do while the others are idle."""
_GREETING = 30.0  # seconds for a peer that has connected to show that it knows the secret
_BYE = "bye"  # a task's last word: that it then hangs up is no failure


class Alone:
    """A barrier stage of one task."""

    number, size = 0, 1

    def gather(self, value: Any) -> list[Any]:
        """Return the values that all tasks gave, in the order of the tasks."""
        return [value]

    def send(self, to: int, key: Hashable, value: Any) -> None:  # noqa: ARG002
        """Send a value to another task, which takes it by its key."""
        raise RuntimeError("a stage of one task has nobody to send to")

    def take(self, key: Hashable, sender: int | None = None) -> Any:  # noqa: ARG002
        """Return the value another task sent under a key, waiting for it."""
        raise RuntimeError("a stage of one task has nobody to take from")

    def close(self) -> None:
        """Finish sending, and hang up."""


class Peers(Alone):
    """The tasks of this task's barrier stage, each connected with each.

    Parameters
    ----------
    secret : bytes
        Known to the tasks of this stage only: who does not have it cannot connect.
    patience : float
        Seconds to wait for another task to connect, and later for any message, before this task fails.

    Raises
    ------
    TransportError
        Some tasks have not connected in time.
    """

    def __init__(self, secret: bytes, patience: float = PATIENCE) -> None:
        from pyspark import BarrierTaskContext

        context = BarrierTaskContext.get()
        own = context.partitionId()
        executors = [info.address for info in context.getTaskInfos()]
        self.number, self.size, self.patience = own, len(executors), patience
        self._peers: dict[int, Connection] = {}
        self._deadline = time.monotonic() + patience
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
        with _listen(hosts[self.number], self.size) as server:
            ports = [int(port) for port in context.allGather(str(server.getsockname()[1]))]
            for other in range(self.number):
                self._call((hosts[other], ports[other]), other, secret)
            self._answer_all(server, secret)

    def _connect_here(self, secret: bytes) -> None:
        """Connect with tasks of the same executor by sockets of known names: Spark's exchange waits a whole second."""
        name = hashlib.sha256(secret).hexdigest()[:24]
        paths = [os.path.join(tempfile.gettempdir(), f"mfspark-{name}-{number}") for number in range(self.size)]
        own = paths[self.number]
        if os.path.exists(own):  # left by a failed attempt
            os.unlink(own)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(own)
            try:
                os.chmod(own, 0o600)
                server.listen(self.size)
                for other in range(self.number):
                    self._call(paths[other], other, secret)
                self._answer_all(server, secret)
            finally:
                os.unlink(own)

    def _call(self, address: tuple[str, int] | str, other: int, secret: bytes) -> None:
        """Connect with a task; one of this machine may not listen yet."""
        while True:
            left = self._left([other])
            try:
                end = _reach(address, left)
            except (FileNotFoundError, ConnectionRefusedError):
                if not isinstance(address, str):
                    raise
                time.sleep(0.005)
                continue
            try:
                peer = _connection(end, self.patience)
                answer_challenge(peer, secret)
                deliver_challenge(peer, secret)
                peer.send(self.number)
            except BlockingIOError:
                raise self._missing([other], "a connection") from None
            except (ConnectionError, EOFError):  # a failed attempt's listener, going
                if not isinstance(address, str):
                    raise
                time.sleep(0.005)
                continue
            self._peers[other] = peer
            return

    def _answer_all(self, server: socket.socket, secret: bytes) -> None:
        while len(self._peers) < self.size - 1:
            server.settimeout(self._left(sorted(set(range(self.size)) - {self.number, *self._peers})))
            try:
                peer = _connection(server.accept()[0], _GREETING)
                deliver_challenge(peer, secret)
                answer_challenge(peer, secret)
                other = peer.recv()
                _limit(peer, self.patience)
                self._peers[other] = peer
            except (AuthenticationError, OSError, EOFError):
                continue  # somebody else's connection, or nobody in time

    def _left(self, missing: list[int]) -> float:
        """Return the seconds left to connect with the missing tasks."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise self._missing(missing, "a connection")
        return left

    def _missing(self, tasks: list[int], what: str) -> TransportError:
        who = f"task{'s' if len(tasks) > 1 else ''} {', '.join(map(str, tasks))} of {self.size}"
        waited, self.patience = self.patience, 0.0  # what comes after a failure need not wait again
        return TransportError(
            f"task {self.number} waited {waited:g} s for {what} from {who}, in vain: look at what it does"
        )

    def gather(self, value: Any) -> list[Any]:
        """Return the values that all tasks gave, in the order of the tasks."""
        self._rounds += 1
        for to in self._peers:
            self.send(to, ("gather", self._rounds, self.number), value)
        numbers = range(self.size)
        return [value if n == self.number else self.take(("gather", self._rounds, n), n) for n in numbers]

    def send(self, to: int, key: Hashable, value: Any) -> None:
        """Send a value to another task, which takes it by its key."""
        self._sent = [future for future in self._sent if not future.done() or future.result()]
        self._sent.append(self._sender.submit(self._peers[to].send, (key, value)))

    def take(self, key: Hashable, sender: int | None = None) -> Any:
        """Return the value another task sent under a key, waiting for it; ``sender``, if known, is for the message.

        Raises
        ------
        EOFError
            The other task has gone, so that this one must fail too.
        TransportError
            No task has sent anything for as long as ``patience``.
        """
        while key not in self._inbox:
            ready = wait(self._heard, self.patience)
            if not ready:
                others = sorted(number for number, peer in self._peers.items() if peer in self._heard)
                raise self._missing(others if sender is None else [sender], "a message")
            for one in ready:
                peer = cast("Connection", one)
                name, value = self._receive(peer)
                self._inbox[name] = value
                if isinstance(name, tuple) and name[0] == _BYE:
                    self._heard.remove(peer)
        return self._inbox.pop(key)

    def _receive(self, peer: Connection) -> Any:
        try:
            return peer.recv()
        except BlockingIOError:  # it stopped in the middle of a message
            number = next(number for number, one in self._peers.items() if one is peer)
            raise self._missing([number], "the rest of a message") from None

    def close(self) -> None:
        """Finish sending, and hang up once all have finished."""
        for to in self._peers:
            self.send(to, (_BYE, self.number), None)
        for other in self._peers:
            self.take((_BYE, other), other)
        self._sender.shutdown(wait=True)
        for future in self._sent:
            future.result()
        for peer in self._peers.values():
            peer.close()


def _listen(host: str, size: int) -> socket.socket:
    try:
        return socket.create_server((host, 0), backlog=size)
    except OSError:  # the address others use need not be one of this machine's own
        return socket.create_server(("", 0), backlog=size)


def _reach(address: tuple[str, int] | str, seconds: float) -> socket.socket:
    if not isinstance(address, str):
        return socket.create_connection(address, seconds)
    end = socket.socket(socket.AF_UNIX)
    try:
        end.settimeout(seconds)
        end.connect(address)
    except BaseException:
        end.close()
        raise
    return end


def _connection(end: socket.socket, seconds: float) -> Connection:
    """Return a connection over a socket whose reads and writes fail when nothing moves for so many seconds."""
    end.setblocking(True)
    if end.family != getattr(socket, "AF_UNIX", None):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # small messages at once, instead of collected
    peer = Connection(end.detach())
    _limit(peer, seconds)
    return peer


def _limit(peer: Connection, seconds: float) -> None:
    whole, rest = divmod(seconds, 1)
    with socket.socket(fileno=os.dup(peer.fileno())) as end:
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            end.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(whole), int(rest * 1e6)))
