"""A Spark session with Delta ready, and the one-time set-up of Java and the Delta JARs behind it."""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from mfspark.errors import SetupError

JAR_FOLDER = Path(os.environ.get("MFSPARK_JARS", Path(sys.prefix) / "jars"))
JAVA_FILE = Path(sys.prefix) / "java_home"
# Spark ships these already; only Delta's own JARs are wanted.
JARS_IN_SPARK = (
    "com.fasterxml.jackson*:*,com.github.luben:*,com.google.code.findbugs:*,commons-logging:*,commons-pool:*,"
    "io.airlift:*,javax.annotation:*,org.apache*:*,org.locationtech*:*,org.roaringbitmap:*,org.slf4j:*,org.xerial*:*"
)
LOCAL_DEFAULTS = {
    "spark.sql.shuffle.partitions": "4",
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.maxResultSize": "0",
    # Over TCP every Python task waits 40 ms for a delayed acknowledgement (Spark 4.1 and later know the other way).
    "spark.python.unix.domain.socket.enabled": "true",
    "spark.python.daemon.module": "mfspark.transport.daemon",
}
DELTA_DEFAULTS = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}
CLUSTER_DEFAULTS = {
    # 50 tasks a look at a table is what costs a small job most; a log of a million files wants more than this.
    "spark.databricks.delta.snapshotPartitions": "4",
    "spark.python.unix.domain.socket.enabled": "true",
    # Spark asks 40 times, every 15 s, for the slots of a barrier stage that is larger than the cluster.
    "spark.scheduler.barrier.maxConcurrentTasksCheck.maxFailures": "6",
}
"""Where ``spark-submit``, the cluster or the caller have not decided."""
LOGGING = ("LOG4J_CONFIGURATION_FILE", str(Path(__file__).with_name("log4j2.properties")))
WORKER_DEFAULTS = {
    # One BLAS thread a task: the task is the unit of parallelism.
    "spark.executorEnv.OMP_NUM_THREADS": "1",
    "spark.executorEnv.OPENBLAS_NUM_THREADS": "1",
    "spark.executorEnv.MKL_NUM_THREADS": "1",
    "spark.executorEnv.NUMBA_NUM_THREADS": "1",
}


def delta_coordinate() -> str:
    """Return the Maven coordinate of the Delta JAR that fits the installed pyspark and delta-spark."""
    delta, spark = version("delta-spark"), ".".join(version("pyspark").split(".")[:2])
    major_minor = tuple(int(part) for part in delta.split(".")[:2])
    # From 4.1 on Delta publishes one artifact per Spark minor version.
    artifact = f"delta-spark_{spark}_2.13" if major_minor >= (4, 1) else "delta-spark_2.13"
    return f"io.delta:{artifact}:{delta}"


def delta_jars() -> list[Path]:
    """Return the Delta JARs resolved at set-up (empty when set-up has not run in this environment)."""
    return sorted(JAR_FOLDER.glob("*.jar"))


def resolve_jars() -> list[Path]:
    """Download Delta's JARs once into this environment with Spark's own resolver; later calls do nothing."""
    if delta_jars():
        return delta_jars()
    with tempfile.TemporaryDirectory() as ivy:
        config = {
            "spark.jars.packages": delta_coordinate(),
            "spark.jars.excludes": JARS_IN_SPARK,
            "spark.jars.ivy": ivy,
            "spark.ui.enabled": "false",
        }
        _use_java()
        builder = SparkSession.builder.master("local[1]").appName("mfspark-setup")
        for key, value in config.items():
            builder = builder.config(key, value)
        builder.getOrCreate().stop()
        partial = JAR_FOLDER.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(Path(ivy) / "jars", partial)
        partial.rename(JAR_FOLDER)
    return delta_jars()


def spark_session(app_name: str = "mfspark", master: str | None = None, config: dict | None = None) -> SparkSession:
    """Return a Spark session that can read and write Delta tables.

    Where a session is already active (a notebook, Databricks, a Connect client), that one is returned.

    Parameters
    ----------
    app_name : str
        The application's name.
    master : str, optional
        A Spark master (``local[2]``, ``spark://...``) or a Connect address (``sc://...``). Without one, the master of
        ``spark-submit`` or the environment is used, or else ``local[*]``.
    config : dict, optional
        Spark settings that win over the defaults.

    Raises
    ------
    SetupError
        No Java 17 or newer was found, or ``spark-submit`` was not given Delta's JARs.
    """
    active = SparkSession.getActiveSession()
    if active is not None and master is None:
        return active
    if master is None and "DATABRICKS_RUNTIME_VERSION" in os.environ:  # a wheel's task: its session is there, unnamed
        return SparkSession.builder.getOrCreate()
    if master is not None and master.startswith("sc://"):
        return SparkSession.builder.remote(master).appName(app_name).getOrCreate()
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ or "SPARK_REMOTE" in os.environ
    if master is None and not submitted and "MASTER" not in os.environ:
        master = "local[*]"
    settings = {**DELTA_DEFAULTS, **WORKER_DEFAULTS}
    if master is not None and master.startswith("local"):
        settings |= LOCAL_DEFAULTS | {"spark.driver.memory": "4g"}
        # Local workers must be this very Python, or their imports fail.
        os.environ["PYSPARK_PYTHON"] = sys.executable
        os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
        for key, value in WORKER_DEFAULTS.items():
            os.environ.setdefault(key.removeprefix("spark.executorEnv."), value)
        if not (submitted or {"SPARK_CONF_DIR", LOGGING[0]} & os.environ.keys()) and os.path.exists(LOGGING[1]):
            os.environ[LOGGING[0]] = LOGGING[1]
    settings |= _jar_settings() | (config or {})
    if not submitted:
        _use_java()
    elif "PYSPARK_GATEWAY_PORT" in os.environ:
        _check_submitted_jars()
    if master is None or not master.startswith("local"):
        settings = _undecided(CLUSTER_DEFAULTS) | settings
    builder = SparkSession.builder.appName(app_name)
    if master is not None:
        builder = builder.master(master)
    for key, value in settings.items():
        builder = builder.config(key, str(value))
    try:
        return builder.getOrCreate()
    finally:
        if os.environ.get(LOGGING[0]) == LOGGING[1]:  # for this JVM, not for those of other programs
            del os.environ[LOGGING[0]]


def _check_submitted_jars() -> None:
    """Raise SetupError where spark-submit has started a JVM without Delta: then it is too late to add its JARs."""
    from pyspark import SparkContext  # a client of Spark Connect need not have it

    SparkContext._ensure_initialized()
    jvm: Any = SparkContext._jvm
    if not jvm.org.apache.spark.util.Utils.classIsLoadable(DELTA_DEFAULTS["spark.sql.extensions"]):
        raise SetupError(f"spark-submit was started without Delta Lake: give it --packages {delta_coordinate()}")


def _undecided(defaults: dict[str, str]) -> dict[str, str]:
    """Return the settings without those that ``spark-submit`` was given."""
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        return defaults
    from pyspark import SparkConf

    given = SparkConf()
    return {key: value for key, value in defaults.items() if not given.contains(key)}


def is_connect(spark: SparkSession) -> bool:
    """Return whether the session is a Spark Connect client (no JVM in this process)."""
    return "connect" in type(spark).__module__


def collected_by_jvm(spark: SparkSession, held: Any) -> Callable[[], bool]:
    """Return a function that says whether a classic session's JVM has let go of an object (once Python has, too)."""
    context: Any = spark.sparkContext
    reference = context._jvm.java.lang.ref.WeakReference(held)

    def collected() -> bool:
        try:
            return bool(reference.refersTo(None))
        except Exception:  # noqa: BLE001 - the JVM has ended, and all its objects with it
            return True

    return collected


def drop_checkpoint(frame: DataFrame) -> None:
    """Let go of what a local checkpoint keeps; over Connect that is left to the server."""
    if not is_connect(frame.sparkSession):
        frame._jdf.queryExecution().analyzed().rdd().unpersist(False)  # type: ignore[operator]


def collect_garbage(spark: SparkSession) -> None:
    """Have a classic session's JVM delete the shuffled files of frames that are gone, for which it looks only then."""
    if not is_connect(spark):
        context: Any = spark.sparkContext
        context._jvm.System.gc()


def delete_folders(spark: SparkSession, folder: str, suffix: str = "") -> bool:
    """Delete a folder, or those whose names have a suffix (with wildcards) beside its; return whether it could.

    A classic session can wherever Spark reads and writes; a client of Connect on its own machine only.
    """
    if is_connect(spark):
        found = glob.glob(glob.escape(folder.removeprefix("file:")) + suffix)
        for one in found:
            shutil.rmtree(one, ignore_errors=True)
        return bool(found)
    try:
        return _delete_in_jvm(spark, folder, suffix)
    except Exception:  # noqa: BLE001 - a platform that lets nobody reach its JVM raises what it likes
        return False


def _delete_in_jvm(spark: SparkSession, folder: str, suffix: str) -> bool:
    context: Any = spark.sparkContext
    path = context._jvm.org.apache.hadoop.fs.Path(re.sub(r"([*?{}\[\]\\])", r"\\\1", folder) + suffix)
    files = path.getFileSystem(context._jsc.hadoopConfiguration())
    for status in files.globStatus(path) or []:
        files.delete(status.getPath(), True)
    return True


@contextmanager
def settings_for_a_while(spark: SparkSession, settings: Mapping[str, str]) -> Iterator[None]:
    """Change settings of a session until the block ends."""
    before = {name: spark.conf.get(name, None) for name in settings}
    for name, value in settings.items():
        spark.conf.set(name, value)
    try:
        yield
    finally:
        for name, old in before.items():
            spark.conf.unset(name) if old is None else spark.conf.set(name, old)


def default_parallelism(spark: SparkSession) -> int:
    """Return the number of task slots, as far as the session can tell."""
    if not is_connect(spark):
        return max(1, spark.sparkContext.defaultParallelism)
    return _connect_slots(spark)


def driver_limit(spark: SparkSession) -> int:
    """Return how many bytes of ids and factors a driver may hold: beyond, they stay on the workers.

    ``spark.mfspark.driverLimit`` (bytes) where it is set, else a quarter of ``spark.driver.memory``, at least 512 MiB.
    """
    given = spark.conf.get("spark.mfspark.driverLimit", None)
    if given is not None:
        return int(given)
    return usual_driver_limit(memory_bytes(spark.conf.get("spark.driver.memory", None) or "1g"))


def usual_driver_limit(memory: int) -> int:
    """Return how many bytes of ids and factors a driver with so much memory may hold."""
    return max(512 << 20, memory // 4)


def memory_bytes(text: str) -> int:
    """Return the bytes of an amount as Spark writes it: 512m, 4g, 1024 (MiB)."""
    number, unit = re.fullmatch(r"(\d+)([kmgtp]?)b?", text.strip().lower()).groups()  # type: ignore[union-attr]
    return int(number) << {"k": 10, "": 20, "m": 20, "g": 30, "t": 40, "p": 50}[unit]


def live_slots(spark: SparkSession) -> int | None:
    """Return how many tasks the executors that are there now can run at once, or None where nobody can tell."""
    if is_connect(spark):
        return None
    context: Any = spark.sparkContext
    try:
        inner = context._jsc.sc()
        return int(inner.maxNumConcurrentTasks(inner.resourceProfileManager().defaultResourceProfile()))
    except Exception:  # noqa: BLE001 - a platform that does not let us look, or a JVM that has ended
        return None


def find_java() -> str | None:
    """Return the home of a Java 17+ that has the module Spark needs, or None."""
    recorded = JAVA_FILE.read_text().strip() if JAVA_FILE.exists() else ""
    on_path = shutil.which("java")
    from_path = str(Path(on_path).resolve().parent.parent) if on_path else ""
    installed = sorted((str(p) for p in Path("/usr/lib/jvm").glob("*") if not p.is_symlink()), reverse=True)
    candidates = [os.environ.get("JAVA_HOME", ""), recorded, from_path, *installed]
    return next((home for home in candidates if home and _java_fits(home)), None)


def _java_fits(home: str) -> bool:
    java = Path(home) / "bin" / "java"
    if not java.exists():
        return False
    listed = subprocess.run([str(java), "--list-modules"], capture_output=True, text=True, check=False)
    modules = dict(line.split("@", 1) for line in listed.stdout.splitlines() if "@" in line)
    feature = modules.get("java.base", "0").split(".")[0].split("-")[0]
    return feature.isdigit() and int(feature) >= 17 and "jdk.incubator.vector" in modules


def _use_java() -> None:
    recorded = JAVA_FILE.read_text().strip() if JAVA_FILE.exists() else ""
    if recorded and (Path(recorded) / "bin" / "java").exists():
        os.environ.setdefault("JAVA_HOME", recorded)
        return
    home = find_java()
    if home is None:
        raise SetupError(
            "no Java 17 or newer (with the module jdk.incubator.vector) in JAVA_HOME, PATH or /usr/lib/jvm: "
            "install a JDK or JRE 17+ (Debian/Ubuntu: openjdk-17-jre-headless) and set JAVA_HOME"
        )
    os.environ["JAVA_HOME"] = home


def _jar_settings() -> dict[str, str]:
    jars = delta_jars()
    if jars:
        return {"spark.jars": ",".join(str(jar) for jar in jars)}
    return {"spark.jars.packages": delta_coordinate(), "spark.jars.excludes": JARS_IN_SPARK}


def _connect_slots(spark: SparkSession) -> int:
    return int(spark.conf.get("spark.default.parallelism", None) or os.cpu_count() or 2)


def main() -> int:
    """Set up this environment: record a fitting Java and resolve the Delta JARs."""
    home = find_java()
    if home is None:
        sys.stderr.write("mfspark needs Java 17 or newer (with jdk.incubator.vector): install one and set JAVA_HOME\n")
        return 2
    JAVA_FILE.write_text(home)
    os.environ["JAVA_HOME"] = home
    jars = resolve_jars()
    sys.stdout.write(f"Java: {home}\nDelta: {len(jars)} JARs\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
