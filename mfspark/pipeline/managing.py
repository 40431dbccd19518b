"""The command ``mfspark-models``: the published models of a store, listed, compared, promoted, retired."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from mfspark.config import Config, load, parse
from mfspark.errors import without_secret
from mfspark.pipeline.command import OK, failed, session_of
from mfspark.store import ModelVersion, Registry
from mfspark.store.compare import flat, measured
from mfspark.store.standing import Alias

NAME = "models"


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the arguments say, print a report and return an exit code: 0, 1 failed, 2 wrong input.

    Parameters
    ----------
    argv : sequence of str, optional
        Default: the process's arguments.
    """
    arguments = _parser().parse_args(argv)
    try:
        config = _config(arguments)
        registry = Registry(session_of(config), config.store.location)
        lines = arguments.action(registry, arguments)
    except Exception as error:
        return failed(NAME, error, arguments.debug)
    sys.stdout.write(without_secret("\n".join(lines)) + "\n")
    return OK


def _config(arguments: argparse.Namespace) -> Config:
    if arguments.store is not None:
        return parse({"store": {"location": arguments.store}})
    return load(arguments.config, arguments.set)


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    where = shared.add_mutually_exclusive_group(required=True)
    where.add_argument("--store", help="the store: a directory, or catalog.schema")
    where.add_argument("--config", help="the YAML configuration of the jobs, which names the store")
    shared.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override one key")
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = argparse.ArgumentParser(f"mfspark-{NAME}", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, action: Any, text: str, *versions: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, parents=[shared])
        for version in versions:
            added.add_argument(version, metavar=version.upper(), help="a version number, an alias, or latest")
        added.set_defaults(action=action)
        return added

    command("list", _list, "every version in a line")
    command("show", _show, "what is known of one version", "version")
    command("diff", _diff, "what differs between two versions", "a", "b")
    for added in (
        command("promote", _promote, "let an alias point at a version", "version"),
        command("rollback", _rollback, "let an alias point at the version before"),
    ):
        added.add_argument("--alias", default="champion", help="the alias that moves (default champion)")
    retire = command("retire", _retire, "delete old versions that no alias needs")
    retire.add_argument("--keep", type=int, required=True, metavar="N", help="how many of the newest stay in any case")
    retire.add_argument("--dry-run", action="store_true", help="only tell what would be done")
    retire.add_argument(
        "--vacuum-hours", type=float, metavar="H", help="delete files that are needed no more since H >= 168 hours"
    )
    retire.add_argument(
        "--force", action="store_true", help="take fewer hours: breaks whoever reads or writes just now"
    )
    return parser


def _list(registry: Registry, arguments: argparse.Namespace) -> list[str]:  # noqa: ARG001
    published = registry.list()
    if not published:
        return [f"no model has been published in {registry.location.root}"]
    aliases = registry.aliases()
    head = ("version", "alias", "published", "run", "class", "rank", "users", "items", "loss", "validation RMSE")
    return table([head, *(_row(model, aliases) for model in published)])


def _row(model: ModelVersion, aliases: dict[str, Alias]) -> tuple[str, ...]:
    stored = model.parameters.get("model", model.parameters)
    settings, sizes = stored.get("settings", {}), stored.get("sizes", (None, None))
    names = ", ".join(alias.name for alias in aliases.values() if alias.version == model.version)
    numbers = [f"{size:,}" if isinstance(size, int) else "-" for size in (settings.get("rank"), *sizes)]
    measures = [_number(model.metrics.get(name)) for name in ("loss", "validationRMSE")]
    created = f"{model.created_at:%Y-%m-%d %H:%M}"
    return str(model.version), names or "-", created, model.run_id, stored.get("class", "-"), *numbers, *measures


def _show(registry: Registry, arguments: argparse.Namespace) -> list[str]:
    model = registry.get(arguments.version)
    aliases = [alias for alias in registry.aliases().values() if alias.version == model.version]
    lines = [f"version      {model.version} (run {model.run_id})", f"published    {model.created_at:%Y-%m-%d %H:%M:%S}"]
    for alias in aliases:
        last = alias.history[-1]
        lines.append(f"alias        {alias.name}, since {last.at} by {last.by}; before: {_trail(alias)}")
    numbers = model.metrics | measured(registry.spark, registry.location, model)
    lines += [f"metric       {name}: {_number(value)}" for name, value in flat(numbers).items()]
    return lines + [f"parameter    {name}: {value}" for name, value in flat(model.parameters).items()]


def _trail(alias: Alias) -> str:
    return ", ".join(map(str, reversed(alias.trail[:-1]))) or "none"


def _diff(registry: Registry, arguments: argparse.Namespace) -> list[str]:
    return registry.compare(arguments.a, arguments.b).lines()


def _promote(registry: Registry, arguments: argparse.Namespace) -> list[str]:
    return _told(registry.promote(arguments.version, arguments.alias, "mfspark-models promote"))


def _rollback(registry: Registry, arguments: argparse.Namespace) -> list[str]:
    return _told(registry.rollback(arguments.alias, "mfspark-models rollback"))


def _told(alias: Alias) -> list[str]:
    return [f"alias        {alias.name} is at version {alias.version}; before: {_trail(alias)}"]


def _retire(registry: Registry, arguments: argparse.Namespace) -> list[str]:
    return registry.retire(arguments.keep, arguments.dry_run, arguments.vacuum_hours, arguments.force).lines()


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return rows of texts in columns, numbers to the right, the first row as head.

    Parameters
    ----------
    rows : sequence of tuple of str
        All of one length.

    Examples
    --------
    >>> table([("version", "run"), ("1", "day-1"), ("12", "day-12")])
    ['version  run', '      1  day-1', '     12  day-12']
    """
    columns = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = [all(_is_number(row[at]) for row in rows[1:]) for at in range(len(columns))]
    lines = []
    for row in rows:
        cells = [
            text.rjust(width) if left else text.ljust(width)
            for text, width, left in zip(row, columns, right, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(",", "").replace(".", "").replace("-", "").isdigit()


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:,.4f}" if isinstance(value, float) else str(value)
