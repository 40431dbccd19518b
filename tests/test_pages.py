"""Every page in Markdown is true: commands parse, links and anchors lead somewhere, files, names and keys exist."""

import json
import os
import pydoc
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import import_module

import pytest
import yaml
from pages import LANGUAGES, ROOT, anchors, blocks, commands, inline_code, languages, links, pages

from mfspark.config import SECTIONS
from mfspark.session import delta_coordinate

PAGES = pages()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SPARK_SUBMIT = {"--master", "--packages", "--py-files", "--archives", "--conf", "--deploy-mode"}
REACHED = "Spark was reached"


def job(name, arguments, monkeypatch, capsys):
    """Run a job up to where it would start Spark: its arguments and its configuration are read."""

    def reached(*_, **__):
        raise RuntimeError(REACHED)

    main = import_module(f"jobs.{name}").main
    for module in [module for name, module in sys.modules.items() if name.startswith("mfspark.")]:
        if "spark_session" in vars(module):
            monkeypatch.setattr(module, "spark_session", reached)
    capsys.readouterr()
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = ended.code
    except RuntimeError as error:
        assert str(error) == REACHED  # noqa: PT017 - some jobs let it pass
        return
    told = capsys.readouterr().err
    assert not code or REACHED in told, told


def console_script(words, *given):
    assert words[0] in PROJECT["scripts"], f"no console script {words[0]}"
    if words[1:]:
        job(PROJECT["scripts"][words[0]].split(":")[0].removeprefix("jobs."), words[1:], *given)


def expanded(words):
    """Return the commands that make would run."""
    inherited = ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "DATA", "CONF", "ARGS", "FAULTS")
    environment = {key: value for key, value in os.environ.items() if key not in inherited}
    # As if it had been set up: what that would run is another command.
    command = [*words, "--no-print-directory", "-n", "-o", ".venv/ready"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.replace("\\\n", " ").splitlines()


def make(words, *given):
    settings = dict(word.split("=", 1) for word in words[1:] if "=" in word)
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    unused = [name for name in settings if not re.search(rf"\$[({{]?{name}\b", text)]
    assert not unused, f"the Makefile knows no {unused}"
    for line in expanded(words):
        command = re.sub(r"^(\w+=\S* )+", "", line)
        if command.startswith(".venv/bin/python"):
            check(command, *given)


def python(words, *given):
    if words[1] == "-m":
        name, arguments = words[2], words[3:]
        if name.startswith("jobs."):
            return job(name.removeprefix("jobs."), arguments, *given)
        if name == "pydoc":
            assert all(pydoc.locate(asked) for asked in arguments), arguments
            return None
        if name == "pytest":
            return files([word for word in arguments if word.startswith("tests/")])
        if name == "pip":
            return pip(words[2:])
        path = ROOT / f"{name.replace('.', '/')}.py"
    else:
        path, arguments = ROOT / words[1], words[2:]
    assert path.exists(), path
    source = "".join(other.read_text(encoding="utf-8") for other in path.parent.glob("*.py"))
    for option in (word for word in arguments if word.startswith("--")):
        assert f'"{option}"' in source, f"{path.name} has no option {option}"
    return None


def files(names):
    for name in names:
        assert list(ROOT.glob(name)), name


def pip(words, *_):
    assert words[1] == "install" or words[1].startswith("--"), words
    for extras in re.findall(r"(?:mfspark|\.)\[([\w,]+)\]", " ".join(words)):
        assert set(extras.split(",")) <= PROJECT["optional-dependencies"].keys(), extras


def spark_submit(words, *given):
    where = next((place for place, word in enumerate(words) if word.endswith(".py")), None)
    if where is None:  # the program by itself
        assert words == ["spark-submit"]
        return
    options = dict(zip(words[1:where:2], words[2:where:2], strict=True))
    assert options.keys() <= SPARK_SUBMIT, options
    assert options.get("--packages") == delta_coordinate()
    assert words[where].startswith("jobs/")
    job(words[where].removeprefix("jobs/").removesuffix(".py"), words[where + 1 :], *given)


def databricks(words, *_):
    folder = ROOT / "conf" / "bundle"
    read = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.yml"))]
    bundle = {key: value for part in read for key, value in part.items() if key != "resources"}
    jobs = {name for part in read for name in part.get("resources", {}).get("jobs", {})}
    rest = words[3:]
    if "-t" in rest:
        at = rest.index("-t")
        assert rest[at + 1] in bundle["targets"]
        rest = rest[:at] + rest[at + 2 :]
    assert words[1] == "bundle"
    assert words[2] in ("validate", "deploy", "run")
    assert words[2] != "run" or (len(rest) == 1 and rest[0] in jobs)


def folder(words, *_):
    assert (ROOT / words[1]).is_dir()


PROGRAMS = {
    "make": make, "python": python, "pip": pip, "spark-submit": spark_submit, "databricks": databricks, "cd": folder,
}  # fmt: skip


def check(command, *given):
    words = shlex.split(command)
    program = words[0].removeprefix(".venv/bin/")
    PROGRAMS.get(program, console_script)([program, *words[1:]], *given)


COMMANDS = [(page, command) for page, text in PAGES.items() for command in dict.fromkeys(commands(text))]


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_command_can_be_given_as_it_stands(page, command, monkeypatch, capsys):  # noqa: ARG001
    monkeypatch.chdir(ROOT)
    check(command, monkeypatch, capsys)


@pytest.mark.parametrize(
    "command",
    [
        "mfspark-trian --config conf/local.yaml",
        "mfspark-train --config conf/none.yaml",
        "mfspark-train --config conf/local.yaml --set als.rnk=3",
        "mfspark-train --config conf/local.yaml --frm latest",
        "make runn",
        "make run DTAA=ratings.csv",
        'make run ARGS="--set als.rank=many"',
        'make test ARGS="tests/nowhere"',
        "python tests/bench/run.py --sises 3",
        "python -m pydoc mfspark.ASL",
        "pip install mfspark[srve]",
        "spark-submit --packages io.delta:delta-spark_2.12:1.0.0 jobs/train.py --config conf/cluster.yaml",
        "cd conf/nowhere",
        "databricks bundle run nothing",
        "databricks bundle run -t nowhere mfspark",
        "rm -rf out",
    ],
)
def test_a_wrong_command_is_seen(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    with pytest.raises(AssertionError):
        check(command, monkeypatch, capsys)


@pytest.mark.parametrize("page", PAGES)
def test_links_and_anchors_lead_somewhere(page):
    assert broken(page, PAGES[page]) == []


def broken(page, text):
    """Return the links of a page that lead nowhere; addresses in the net are not looked up."""
    wrong = []
    for link in links(text):
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        if not re.match(r"https?://", link) and (
            not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8")))
        ):
            wrong.append(link)
    return wrong


def test_a_broken_link_is_seen():
    text = "[a](nowhere.md) [b](../README.md#nothing) [c](#nothing) ![d](x.png) [e](../README.md#two-commands)"
    assert broken("jobs/README.md", text) == ["nowhere.md", "../README.md#nothing", "#nothing", "x.png"]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_of_a_kind_that_a_test_reads(page):
    assert languages(PAGES[page]) <= set(LANGUAGES)


@pytest.mark.parametrize("page", PAGES)
def test_files_names_and_keys_in_the_text_exist(page):
    for code in inline_code(PAGES[page]):
        assert exists(code), f"{page}: {code}"


def exists(code):
    """Return whether a piece of inline code is no file, name or key, or one that exists."""
    first, _, rest = code.partition(".")
    if re.fullmatch(r"(tests|conf|jobs|notebooks|mfspark)/[\w/.]+", code):
        return (ROOT / code).exists()
    if re.fullmatch(r"mfspark(\.\w+)+(\(\))?", code):
        return pydoc.locate(code.removesuffix("()")) is not None
    if first not in SECTIONS or not re.fullmatch(r"\w+", rest) or rest in SECTIONS[first].model_fields:
        return True
    # A section of the configuration, and a model, of which methods are told.
    return first == "model" and pydoc.locate(f"mfspark.ALSModel.{rest}") is not None


@pytest.mark.parametrize("code", ["tests/none.py", "mfspark.nothing", "als.rnk", "model.nothing", "source.pth"])
def test_what_does_not_exist_is_seen(code):
    assert not exists(code)


def test_the_front_page_is_short_and_leads_to_every_page():
    front = PAGES["README.md"]
    assert len(front.splitlines()) <= 150
    pointed = {link.partition("#")[0] for link in links(front)}
    beside = {"tests/peers/DIFFERENCES.md"}  # of the migration
    assert PAGES.keys() - beside - {"README.md"} <= pointed


def seconds(text):
    return set(re.findall(r"([\d.]+) s\b", "".join(line for line in text.splitlines() if line.startswith("|"))))


def test_the_front_pages_figures_are_those_of_the_benchmark():
    shown = seconds(PAGES["README.md"])
    assert len(shown) >= 12
    assert shown <= seconds(PAGES["tests/bench/README.md"])


def test_the_benchmarks_figures_are_its_results():
    from bench.pictures import HEADLINES

    results = json.loads((ROOT / "tests" / "bench" / "results" / "results.json").read_text(encoding="utf-8"))
    found = {(row["contender"], row.get("implicit")): row for row in results["medians"] if is_headline(row)}
    told = re.findall(r"[\d.]*\d", PAGES["tests/bench/README.md"].split("| 100,480,507")[0])
    for label, *both, figure in HEADLINES:
        for one in both:
            value = found[one][figure]
            assert {f"{value:.{digits}f}" for digits in range(3)} & set(told), (label, one, value)


def is_headline(row):
    return row.get("rank") == 64 and row["size"] == 10**7 and "error" not in row


def test_the_page_of_the_library_names_every_room():
    rooms = {path.parent.name for path in (ROOT / "mfspark").glob("*/__init__.py")}
    drawn = blocks(PAGES["mfspark/README.md"], "text")[0]
    assert {room for room in rooms if f"\n  {room}/ " not in drawn} == set()


def test_the_estimators_are_told_with_every_option_they_have():
    import mfspark.estimators
    from mfspark.estimators.options import SUPPORT

    told = re.findall(r"^(\w+)\n((?:    .*\n)+)", mfspark.estimators.__doc__, re.MULTILINE)
    assert {name for name, _ in told} == {name for names in SUPPORT.values() for name in names}
    for name, text in told:
        comp = {option for option in re.findall(r"``(\w+)``", text) if option in SUPPORT}
        ref = {option for option, names in SUPPORT.items() if name in names}
        assert comp == ref, name
