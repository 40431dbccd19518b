"""Run in Airflow's own environment: the DAGs of a folder, parsed, rendered and run; what came of it as lines of JSON.

``run_dag.py parse`` prints the errors of all files and what each DAG's tasks would be told for one interval;
``run_dag.py DAY ...`` runs the DAG mfspark for each day, one after the other, as ``airflow dags test`` does.
"""

import json
import sys

import pendulum
from airflow.dag_processing.dagbag import DagBag

FIELDS = ("application", "application_args", "job_parameters")


def tell(**found):
    sys.stdout.write("told " + json.dumps(found) + "\n")
    sys.stdout.flush()


def rendered(task, start):
    """Return the templated fields of a task for the day that begins then."""
    told = {"data_interval_start": start, "data_interval_end": start.add(days=1), "run_id": "manual__by-hand"}
    task.render_template_fields(told | {"dag": task.dag, "params": {}})
    return {name: getattr(task, name) for name in FIELDS if hasattr(task, name)}


def main(days):
    bag = DagBag(safe_mode=False)
    if days == ["parse"]:
        start = pendulum.datetime(2026, 1, 4)  # a Sunday
        tasks = {name: {task.task_id: rendered(task, start) for task in dag.tasks} for name, dag in bag.dags.items()}
        after = {
            name: {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks}
            for name, dag in bag.dags.items()
        }
        tell(errors=bag.import_errors, tasks=tasks, after=after)
        return
    for day in days:
        run = bag.dags["mfspark"].test(logical_date=pendulum.parse(day))
        states = {task.task_id: [str(task.state), task.try_number] for task in run.get_task_instances()}
        tell(day=day, state=str(run.state), states=states)


if __name__ == "__main__":
    main(sys.argv[1:])
