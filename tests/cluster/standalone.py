"""A Spark standalone cluster on this machine: a master, and workers that each have their own directories."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pyspark

ROOT = Path(__file__).resolve().parents[2]
SPARK_HOME = Path(pyspark.__file__).parent
DEPLOY = "org.apache.spark.deploy"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(found, what, seconds=60.0, pause=0.2):
    """Wait until a function returns something true, and return it; no wait is without end."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if value := found():
            return value
        time.sleep(pause)
    raise TimeoutError(f"{what}: not within {seconds:g} s")


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def processes(*words):
    """Return the pids of the processes whose command line has all these words."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            command = file.read_bytes().decode(errors="replace")
            if all(word in command for word in words):
                found.append(int(file.parent.name))
    return sorted(found)


def parent(pid):
    """Return the pid of a process's parent, 0 where it has ended."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return 0


def kill(pids, with_signal=signal.SIGKILL):
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, with_signal)
    return list(pids)


class Standalone:
    """The running cluster.

    Parameters
    ----------
    folder : Path
        Where its directories lie: worker i has ``folder/i/work`` and ``folder/i/local``.
    python : str, optional
        The workers' Python; default this one.
    path : str, optional
        The workers' PYTHONPATH; default the project.
    """

    def __init__(self, folder, python=sys.executable, path=str(ROOT), local=None, more=None):
        self.folder, self.python, self.path, self.local = Path(folder), python, path, local or {}
        self.more = more or {}
        self.port = free_port()
        self.address = f"spark://127.0.0.1:{self.port}"
        self.workers = {}
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SPARK_", "PYSPARK", "PYTHON"))}
        # The workers' Python is the driver's wish: it sends the name.
        pythons = {"PYSPARK_PYTHON": python, "PYSPARK_DRIVER_PYTHON": sys.executable}
        self.environment = kept | pythons | {"SPARK_HOME": str(SPARK_HOME), "SPARK_DAEMON_MEMORY": "200m"}

    def start(self, kind, *arguments, **more):
        command = [str(SPARK_HOME / "bin" / "spark-class"), f"{DEPLOY}.{kind}", "--host", "127.0.0.1", *arguments]
        log = open(self.folder / f"{kind}-{len(self.workers)}.log", "w")
        with log:
            return subprocess.Popen(command, env=self.environment | more, stdout=log, stderr=log)

    def start_worker(self, memory="700m"):
        """Start one more worker of one core, and return its number."""
        number = len(self.workers)
        own = self.folder / str(number)
        local = self.local.get(number, own / "local")
        local.mkdir(parents=True, exist_ok=True)
        more = {"SPARK_LOCAL_DIRS": str(local), "PYTHONPATH": self.path} | self.more
        options = ["--cores", "1", "--memory", memory, "--work-dir", str(own / "work"), "--webui-port", "0"]
        self.workers[number] = self.start("worker.Worker", *options, self.address, **more)
        return number

    def executors(self, number=None):
        """Return the pids of the executors, of one worker or of all."""
        found = processes("CoarseGrainedExecutorBackend", str(self.folder) if number is None else self.work(number))
        return [pid for pid in found if pid > 0]

    def work(self, number):
        return str(self.folder / str(number) / "work")

    def pythons(self):
        """Return the pids of the Python workers: daemons' children of the executors."""
        executors = set(self.executors())
        daemons = {pid for pid in processes("pyspark.daemon") if parent(pid) in executors}
        return [pid for pid in processes("pyspark.daemon") if parent(pid) in daemons]

    def lose_worker(self, number):
        """Kill a whole worker: its daemon first, so that it starts no other executor."""
        kill([self.workers[number].pid])
        kill(self.executors(number))

    def submit_environment(self, path=str(ROOT)):
        return self.environment | {"PYTHONPATH": path}


@contextmanager
def cluster(folder, workers=2, memory="700m", **options):
    """Run a cluster until the block ends."""
    running = Standalone(folder, **options)
    with ExitStack() as ending:

        def end():
            for process in [*running.workers.values(), master]:
                process.send_signal(signal.SIGCONT)
                process.terminate()
            for process in [*running.workers.values(), master]:
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
            kill(running.executors())

        master = running.start("master.Master", "--port", str(running.port), "--webui-port", "0")
        ending.callback(end)
        wait_until(lambda: listens(running.port) or master.poll() is not None, "the master listens")
        for _ in range(workers):
            running.start_worker(memory)
        yield running
