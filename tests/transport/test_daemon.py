"""The daemon of Python workers: real workers of pyspark on sockets that are closed, in processes of their own."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import socket, sys
from pyspark import daemon as plain
from mfspark.transport import daemon
own, other = socket.socketpair(socket.AF_UNIX)
other.close()
print((plain if sys.argv[2] == "plain" else daemon).worker(own, True))
"""


@pytest.mark.parametrize("which", ["plain", "ours"])
def test_a_worker_whose_socket_is_closed_ends_quietly(which):
    environment = os.environ | {"PYTHON_DAEMON_KILL_WORKER_ON_FLUSH_FAILURE": "1"}
    command = [sys.executable, "-c", PROGRAM, "pyspark.worker", which]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if which == "plain":
        assert "BrokenPipeError" in done.stderr
    else:
        assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_other_errors_are_told(monkeypatch):
    from mfspark.transport import daemon

    def fails(*_):
        raise OSError("no space left")

    monkeypatch.setattr(daemon, "_worker", fails)
    with pytest.raises(OSError, match="no space left"):
        daemon.worker(None, True)


def test_what_is_loaded_before_workers_are_forked_starts_no_thread():
    program = "import sys, mfspark.transport.daemon; print({'numpy', 'pandas', 'pyarrow', 'numba'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
