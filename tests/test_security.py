"""What is stored cannot run code when it is read, names and texts cannot leave their quotes, and no secret is told."""

import ast
import json
import logging
import re
import tomllib
from importlib.metadata import PackageNotFoundError, metadata

import numpy as np
import pyarrow as pa
import pytest
import yaml
from import_graph import PACKAGE, ROOT, every_module, name_of, tree_of
from pages import pages

from mfspark import ConfigError, StoreError
from mfspark.config import parse
from mfspark.errors import without_secret
from mfspark.pipeline.command import run_jobs
from mfspark.pipeline.ingesting import IngestReport
from mfspark.store import tables

# What a driver and the tasks of its own fit tell each other; Spark moves whatever it is given in the same way.
BETWEEN_PROCESSES = {"mfspark.transport.carriers", "mfspark.training.task_rows"}
UNSAFE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "allow_pickle", "load_objects", "unsafe_load", "full_load", "yaml.load", "os.system"}
PROGRAMS = [*every_module(), *sorted((ROOT / "conf").rglob("*.py")), *sorted((ROOT / "notebooks").glob("*.py"))]


def unsafe(tree):
    """Return what a module imports or calls that may run what a file says."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names} & UNSAFE
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module).split(".")[0]} & UNSAFE
        elif isinstance(node, ast.Call):
            keywords = {keyword.arg for keyword in node.keywords if not is_false(keyword.value)}
            found |= ({ast.unparse(node.func)} | keywords) & UNSAFE_CALLS
            found |= {"shell=True"} if "shell" in keywords else set()
    return found


def is_false(value):
    return isinstance(value, ast.Constant) and value.value is False


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_that_is_read_is_run(path):
    allowed = {"pickle"} if path.is_relative_to(PACKAGE) and name_of(path) in BETWEEN_PROCESSES else set()
    assert unsafe(tree_of(path)) <= allowed


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from cloudpickle import loads",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_unsafe_calls_are_seen(text):
    assert unsafe(ast.parse(text))
    assert not unsafe(ast.parse("import json\nnp.load(path, allow_pickle=False)\nyaml.safe_load(text)"))


def test_an_array_that_would_run_code_is_not_loaded(tmp_path):
    from mfspark.model.local_files import read

    class Runs:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    path = tmp_path / "model"
    path.mkdir()
    ids = pa.record_batch({"id": pa.array([1])})
    for side in ("user", "item"):
        np.save(path / f"{side}.npy", np.array([Runs()], dtype=object), allow_pickle=True)
        with pa.ipc.new_file(str(path / f"{side}_ids.arrow"), ids.schema) as file:
            file.write_batch(ids)
    (path / "model.json").write_text("{}")
    with pytest.raises(ValueError, match="Python objects"):
        read(str(path), None, None)
    assert not (tmp_path / "ran").exists()


def test_a_configuration_cannot_make_objects(tmp_path):
    from mfspark.config import load

    path = tmp_path / "job.yaml"
    path.write_text("store: !!python/object/apply:os.mkdir [made]\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load(path)


HOSTILE = [
    "a`; DROP TABLE models; --",
    "a' OR '1'='1",
    'a" OR ""="',
    "back\\slash\\'",
    "semi;colon",
    "line\nbreak",
    "-- comment",
    "``",
    "`",
    "$plain",
]


def spelled(name):
    """Return the identifier that a quoted name is, read as SQL reads it: one token, nothing after it."""
    token = re.fullmatch(r"`((?:[^`]|``)*)`", name, re.DOTALL)
    assert token, name
    return token[1].replace("``", "`")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_path_cannot_leave_its_quotes(text):
    start, _, rest = tables.sql_name(f"/data/{text}").partition(".")
    assert start == "delta"
    assert spelled(rest) == f"/data/{text}"
    assert spelled(tables.quoted(text)) == text
    assert not tables.is_name(f"catalog.{text}")


@pytest.mark.parametrize("text", [*HOSTILE, "${env:HOME}", "${spark.x}"])
def test_a_text_cannot_leave_its_quotes(text):
    said = tables.literal(text)
    token = re.fullmatch(r"'((?:[^'\\]|\\.)*)'", said, re.DOTALL)
    assert token, said
    assert re.sub(r"\\(u[0-9a-f]{4}|.)", unescaped, token[1], flags=re.DOTALL) == text
    assert "${" not in said


def unescaped(found):
    return chr(int(found[1][1:], 16)) if len(found[1]) == 5 else found[1]


@pytest.mark.parametrize("address", ["/data/${env:HOME}", "catalog.${spark.x}"])
def test_spark_puts_no_variable_into_a_name(address):
    with pytest.raises(StoreError, match="give the place itself"):
        tables.sql_name(address)


def test_every_text_in_sql_is_quoted():
    """What is put into SQL is a number, quoted, a literal, or put together of these."""
    allowed = re.compile(
        r"(tables\.)?(sql_name|quoted|literal)\(|^(source|condition|inside|kind|version)$|^repr\(\w+\)$|HOLDOUT$"
    )
    wrong = []
    for path in sorted((PACKAGE / "store").glob("*.py")):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.JoinedStr) and re.search(
                r"\b(SELECT|MERGE INTO|DELETE FROM|DESCRIBE|DROP TABLE|SHOW TABLES|VACUUM|INSERT|UPDATE|ALTER)\b",
                ast.unparse(node),
            ):
                spliced = [part for part in node.values if isinstance(part, ast.FormattedValue) and not is_number(part)]
                parts = [ast.unparse(part.value) for part in spliced]
                wrong += [f"{path.name}, line {node.lineno}: {part}" for part in parts if not allowed.search(part)]
    assert wrong == []


def is_number(part):
    """Return whether a part of an f-string is formatted as a number, which a text cannot be."""
    return part.format_spec is not None and ast.unparse(part.format_spec)[-2] in "dgf"


def test_numbers_in_sql_are_seen_by_their_format():
    parts = ast.parse("f'{n:g}{n:,d}{n}{n:>5}{n!r}'").body[0].value.values
    assert [is_number(part) for part in parts] == [True, True, False, False, False]


SECRETS = {
    "s3a://KEY:hidden@bucket/ratings": "s3a://***@bucket/ratings",
    "ftp://me:hid/den@host/x": "ftp://me:hid/den@host/x",  # no address: a slash ends the host
    "ftp://me:hid@den@host/x": "ftp://***@host/x",
    "jdbc:postgresql://u:hidden@host:5432/db": "jdbc:postgresql://***@host:5432/db",
    "https://host/file?sv=1&sig=hidden&x=2": "https://host/file?sv=1&sig=***&x=2",
    "{'password': 'hidden too', 'user': 'me'}": "{'password': ***, 'user': 'me'}",
    "source.options.access_token=hidden": "source.options.access_token=***",
    "spark.hadoop.fs.s3a.secret.key=hidden": "spark.hadoop.fs.s3a.secret.key=***",
    "fs.azure.account.key.me.dfs.core.windows.net='hidden'": "fs.azure.account.key.me.dfs.core.windows.net=***",
    "abfss://files@account.dfs.core.windows.net/ratings": "abfss://files@account.dfs.core.windows.net/ratings",
    "http://host:8080/a@b, unexpected token: x": "http://host:8080/a@b, unexpected token: x",
}


@pytest.mark.parametrize("text", SECRETS)
def test_secrets_are_left_out(text):
    assert without_secret(text) == SECRETS[text]


KEPT = {
    "store.location": {"store": {"location": "s3a://KEY:hidden@bucket/store"}},
    "train.path": {"train": {"path": "s3a://KEY:hidden@bucket/ratings"}},
    "split.held_out": {"split": {"method": "file", "held_out": "https://host/x?sig=hidden"}},
    "split.probe": {"split": {"method": "probe", "probe": "ftp://me:hidden@host/probe"}},
}


@pytest.mark.parametrize("key", KEPT)
def test_what_is_kept_with_a_model_holds_no_secret(key):
    with pytest.raises(ConfigError, match=rf"^{key}: .*\*\*\*.* give it to Spark instead") as caught:
        parse({"store": {"location": "out/x"}} | KEPT[key])
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("options", [[], ["--debug"]])
def test_a_command_tells_no_secret(options, tmp_path, capsys, monkeypatch):
    def job(spark, config, run_id):  # noqa: ARG001
        logging.getLogger("mfspark.training").info("reads %s", config.source.path)
        if options:
            raise RuntimeError(f"cannot read {config.source.path} with {config.source.options}")
        return IngestReport(run_id, config.source.path, 0, 0, 0, 0, 0, 1, 5, 0, None, {}, None, (config.source.path,))

    monkeypatch.setattr("mfspark.pipeline.command.spark_session", lambda *_: None)
    monkeypatch.setattr("mfspark.pipeline.command.is_connect", lambda _: True)
    conf = tmp_path / "job.yaml"
    source = {"path": "s3a://KEY:hidden@bucket/ratings", "options": {"password": "hidden"}}
    conf.write_text(yaml.safe_dump({"store": {"location": str(tmp_path)}, "source": source}))
    assert run_jobs("ingest", [job], ["--config", str(conf), *options]) == len(options)
    shown = capsys.readouterr()
    assert "s3a://***@bucket/ratings" in shown.err
    assert "hidden" not in shown.out + shown.err


def test_a_refused_override_tells_no_secret(tmp_path, capsys):
    conf = tmp_path / "job.yaml"
    conf.write_text(json.dumps({"store": {"location": str(tmp_path)}}))
    assert run_jobs("train", [], ["--config", str(conf), "--set", "source.password=hidden"]) == 2
    assert "hidden" not in capsys.readouterr().err


def required():
    """Return every package that pyproject.toml asks for itself, with the requirement."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]
    return {re.match(r"[\w.-]+", name)[0]: name for name in asked if not name.startswith("mfspark")}


def told_packages():
    table = pages()["conf/README.md"].split("\n## Dependencies\n")[1]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")][1:]
    return {name: (version, licence, why) for name, version, licence, why in rows}


def test_every_dependency_is_told_with_its_version_and_why():
    told, asked = told_packages(), required()
    assert told.keys() == asked.keys()
    pins = (ROOT / "conf" / "constraints.txt").read_text(encoding="utf-8").split()
    pinned = {name.lower().replace("_", "-"): version for name, version in (pin.split("==") for pin in pins)}
    for name, requirement in asked.items():
        version, _, why = told[name]
        assert version == pinned.get(name.lower(), requirement.partition("==")[2]), name
        assert len(why) > 8


@pytest.mark.parametrize("name", required())
def test_the_licence_of_a_dependency_is_its_own(name):
    try:
        known = metadata(name)
    except PackageNotFoundError:
        pytest.skip(f"{name} is not installed")
    licence = told_packages()[name][1]
    if known.get("License-Expression"):
        assert licence == known.get("License-Expression")
    else:
        said = f"{known.get('License') or ''} {' '.join(known.get_all('Classifier') or [])}".lower()
        assert licence.split("-")[0].lower() in said.replace("python software foundation", "psf") or name == "cmfrec"
