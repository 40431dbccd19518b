"""Airflow: ingest, train and evaluate every day with spark-submit.

Copy this file into Airflow's DAG folder and set MFSPARK_HOME to a checkout (or an unpacked wheel with jobs/ and conf/).
Airflow may submit a task twice after a worker crash. Every job is told the DAG run's id, and writes keyed by it: the
second submission replaces what the first one wrote, and a model is published once.
"""

import os
from datetime import datetime, timedelta

from airflow import DAG
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator

HOME = os.environ.get("MFSPARK_HOME", "/opt/mfspark")
CONFIG = os.environ.get("MFSPARK_CONFIG", f"{HOME}/conf/cluster.yaml")
# Delta is no part of Spark. Where the cluster has it, set this to nothing.
PACKAGES = os.environ.get("MFSPARK_PACKAGES", "io.delta:delta-spark_4.2_2.13:4.4.0") or None
RUN_ID = "{{ run_id }}"


def job(name: str, *overrides: str) -> SparkSubmitOperator:
    """Return the task that submits one job under the DAG run's id."""
    arguments = ["--config", CONFIG, "--run-id", RUN_ID]
    for override in overrides:
        arguments += ["--set", override]
    return SparkSubmitOperator(
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
    description="Ratings to a published factorization model",
    schedule="@daily",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
) as dag:
    own_model = f"model.run_id={RUN_ID}"
    job("ingest") >> job("train") >> [job("evaluate", own_model), job("predict", own_model)]
