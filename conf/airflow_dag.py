"""Airflow: every day the day's ratings are ingested, a model is trained from the one before, measured and served.

Copy this file into Airflow's DAG folder and set MFSPARK_HOME to a checkout (or an unpacked wheel with jobs/ and conf/).
`make airflow-test` runs it in Airflow 3; nothing in it is missing in Airflow 2.4 and newer.

One interval, one result. A run id is made of the data interval's two ends, of nothing else: a retry, a cleared task, a
backfill and a run by hand of the same day all have the id of its first run, and writes keyed by it replace what was
there. A day reads the ratings of its interval (``source.since``, ``source.until``) and trains on those from before its
end (``train.until``), also when later days are in the table already; it starts from the model published before its own.
Days that follow each other are to be run in order (max_active_runs=1); to fill in years, run a first day by hand:
``mfspark-ingest --config FILE --run-id history --set source.mode=append --set source.until=2026-01-01``.

Evaluate is the gate: the day's model is promoted to champion if it beats the one before on the ratings that it held out
itself, and predict takes the champion, whichever that is. A day that is run again when a newer model is champion is
measured, and promoted no more.

What stops the DAG: more bad rows than ``quality.max_rejected`` allows, a configuration or an input that is wrong. The
job then ends with exit code 2 and one line, and is not tried again; what may pass by itself (exit code 1) is.

- MFSPARK_HOME, MFSPARK_CONFIG: the checkout and the configuration (/opt/mfspark, and conf/cluster.yaml in it).
- MFSPARK_SOURCE: a path for each day instead of times: s3a://bucket/ratings/day={{ data_interval_start | ds }}
- MFSPARK_SCHEDULE: a cron line of the intervals, in UTC (0 0 * * *).
- MFSPARK_COLD_WEEKDAY: on whose ratings a fit starts from drawn factors instead of the last model's; 1 is Monday, 0
  never (7). With ``als.tol`` in the configuration the fits of the other days end sooner.
- MFSPARK_GATE: the metric of the gate (rmse); one of a ranking, such as ndcgAtK, needs ``evaluate.k``.
- MFSPARK_PACKAGES: Delta, which is no part of Spark; where the cluster has it, set this to nothing.
"""

import os
from datetime import datetime, timedelta

from airflow import DAG
from airflow.exceptions import AirflowException, AirflowFailException
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.timetables.interval import CronDataIntervalTimetable

HOME = os.environ.get("MFSPARK_HOME", "/opt/mfspark")
CONFIG = os.environ.get("MFSPARK_CONFIG", f"{HOME}/conf/cluster.yaml")
PACKAGES = os.environ.get("MFSPARK_PACKAGES", "io.delta:delta-spark_4.2_2.13:4.4.0") or None
SCHEDULE = os.environ.get("MFSPARK_SCHEDULE", "0 0 * * *")
COLD_WEEKDAY = int(os.environ.get("MFSPARK_COLD_WEEKDAY", "7"))
METRIC = os.environ.get("MFSPARK_GATE", "rmse")
ALIAS = "champion"

RUN_ID = "{{ data_interval_start | ts_nodash }}-{{ data_interval_end | ts_nodash }}"
START, END = "{{ data_interval_start | ts }}", "{{ data_interval_end | ts }}"
TIMES = [f"source.since={START}", f"source.until={END}"]
SOURCE = [f"source.path={path}"] if (path := os.environ.get("MFSPARK_SOURCE")) else TIMES
START_FROM = f"{{{{ 'null' if data_interval_start.isoweekday() == {COLD_WEEKDAY} else 'latest' }}}}"


class Job(SparkSubmitOperator):
    """Submits a job. What is wrong with its input (exit code 2) would be wrong again: that is not retried."""

    def execute(self, context):
        """Run the job."""
        try:
            return super().execute(context)
        except AirflowException as error:
            if "Error code is: 2." not in str(error):
                raise
            told = f"{self.task_id}: the input or the configuration is wrong (exit code 2); the line above says what"
            raise AirflowFailException(told) from error


def job(name: str, *overrides: str) -> Job:
    """Return the task that submits one job under the run id of the data interval."""
    arguments = ["--config", CONFIG, "--run-id", RUN_ID]
    for override in overrides:
        arguments += ["--set", override]
    return Job(
        task_id=name,
        application=f"{HOME}/jobs/{name}.py",
        name=f"mfspark-{name}",
        application_args=arguments,
        packages=PACKAGES,
        retries=2,
        retry_delay=timedelta(minutes=5),
    )


with DAG(
    dag_id="mfspark",
    description="Ratings of a day to a published factorization model",
    # Airflow 3 gives "@daily" no interval any more: this timetable does, in Airflow 2 and 3.
    schedule=CronDataIntervalTimetable(SCHEDULE, timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
) as dag:
    ingest = job("ingest", "source.mode=append", *SOURCE)
    train = job("train", f"train.until={END}", f"train.start_from={START_FROM}")
    gate = job("evaluate", f"model.run_id={RUN_ID}", f"gate.metric={METRIC}", f"gate.alias={ALIAS}")
    ingest >> train >> gate >> job("predict", f"model.version={ALIAS}")
