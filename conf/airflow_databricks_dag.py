"""Airflow and Databricks: every day the bundle's job (conf/bundle) runs for the day's ratings.

Copy this file into Airflow's DAG folder, deploy the bundle, and name its job in MFSPARK_DATABRICKS_JOB (default
mfspark; in the target dev the bundle puts "[dev NAME] " before it). It is the DAG of airflow_dag.py with its tasks in
Databricks, and the same holds: the run id is made of the data interval's two ends, so that a retry, a cleared task, a
backfill and a run by hand of a day replace what its first run wrote, and a wrong input ends the job in one line.

The tasks are Databricks' own: it tries them again as the bundle says. Airflow adds one try for a lost connection.
"""

import os
from datetime import datetime, timedelta

from airflow import DAG
from airflow.providers.databricks.operators.databricks import DatabricksRunNowOperator
from airflow.timetables.interval import CronDataIntervalTimetable

JOB = os.environ.get("MFSPARK_DATABRICKS_JOB", "mfspark")
SCHEDULE = os.environ.get("MFSPARK_SCHEDULE", "0 0 * * *")
COLD_WEEKDAY = int(os.environ.get("MFSPARK_COLD_WEEKDAY", "7"))

with DAG(
    dag_id="mfspark_databricks",
    description="Ratings of a day to a published factorization model, in Databricks",
    schedule=CronDataIntervalTimetable(SCHEDULE, timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
) as dag:
    DatabricksRunNowOperator(
        task_id="mfspark",
        job_name=JOB,
        job_parameters={
            "run_id": "{{ data_interval_start | ts_nodash }}-{{ data_interval_end | ts_nodash }}",
            "mode": "append",
            "since": "{{ data_interval_start | ts }}",
            "until": "{{ data_interval_end | ts }}",
            "start_from": f"{{{{ 'null' if data_interval_start.isoweekday() == {COLD_WEEKDAY} else 'latest' }}}}",
        },
        retries=1,
        retry_delay=timedelta(minutes=5),
    )
