"""`qanun db | serve | worker | demo | plugins | audit | i18n | <plugin>`: thin; each command calls one room."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qanun.errors import ConfigurationError, QanunError

if TYPE_CHECKING:
    from qanun.app import CliCommand
    from qanun.config import Config
    from qanun.db.lineage import Lineage


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 1 refused or failed, 2 wrong use."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    try:
        if argv and argv[0] in _plugin_slugs():
            return _plugin_command(argv)
        options = parser.parse_args(argv)
        code: int = options.run(options)
    except QanunError as error:
        print(f"qanun: {error.message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="qanun", description="A clinic in a box.")
    commands = parser.add_subparsers(dest="command", required=True)

    database = commands.add_parser("db", help="prepare, upgrade and inspect the database")
    actions = database.add_subparsers(dest="action", required=True)
    prepare = actions.add_parser("prepare", help="create roles, database and extensions (as the superuser, once)")
    prepare.add_argument("--superuser-url", required=True)
    prepare.add_argument("--database", default="qanun")
    prepare.set_defaults(run=_db_prepare)
    upgrade = actions.add_parser("upgrade", help="bring every lineage to its head")
    upgrade.add_argument("--superuser-url", help="prepare first, as this superuser: one start of a process for both")
    upgrade.set_defaults(run=_db_upgrade, database="qanun")
    actions.add_parser("status", help="up to date, behind, ahead or orphaned").set_defaults(run=_db_status)
    revision = actions.add_parser("revision", help="write the next migration of one distribution from its models")
    revision.add_argument("slug")
    revision.add_argument("message")
    revision.set_defaults(run=_db_revision)

    serve = commands.add_parser("serve", help="run the web server")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8000)
    serve.add_argument("--workers", type=int, default=1)
    serve.add_argument("--certificate", type=Path)
    serve.add_argument("--certificate-key", type=Path)
    serve.set_defaults(run=_serve)

    commands.add_parser("worker", help="run background jobs").set_defaults(run=_worker)

    keys = commands.add_parser("keys", help="the appliance's keys")
    key_actions = keys.add_subparsers(dest="action", required=True)
    key_actions.add_parser("create", help="make the master key if there is none").set_defaults(run=_keys_create)

    demo = commands.add_parser("demo", help="demonstration clinics")
    demo_actions = demo.add_subparsers(dest="action", required=True)
    seed = demo_actions.add_parser("seed", help="make two clinics with a believable week")
    seed.add_argument("--patients", type=int, default=200)
    seed.set_defaults(run=_demo_seed)

    plugins = commands.add_parser("plugins", help="what is installed, and whether it runs")
    plugins.add_argument("action", choices=["list"])
    plugins.set_defaults(run=_plugins_list)

    audit = commands.add_parser("audit", help="the record of what happened")
    audit.add_argument("action", choices=["verify"])
    audit.set_defaults(run=_audit_verify)

    languages = commands.add_parser("i18n", help="extract, update, compile and check translations")
    languages.add_argument("action", choices=["extract", "update", "compile", "check"])
    languages.set_defaults(run=_i18n)
    return parser


def _config() -> Config:
    from qanun.config import Config

    return Config.from_environment()


def _db_prepare(options: argparse.Namespace) -> int:
    from qanun.db.cluster import prepare_cluster

    prepare_cluster(options.superuser_url, options.database)
    return 0


def _lineages() -> Sequence[Lineage]:
    from qanun.app.build import gather

    return gather()[1].lineages()


def _db_upgrade(options: argparse.Namespace) -> int:
    from qanun.cli.standing import folders, remember, standing

    url, known = _config().owner_database_url, folders()
    if (heads := standing(url, known)) is not None:
        for slug, head in heads.items():
            print(f"{slug}: up to date ({head})")
        return 0
    from qanun.db.migrations import upgrade

    if options.superuser_url:
        _db_prepare(options)
    found = upgrade(url, _lineages())
    for status in found:
        print(f"{status.slug}: {status.state} ({status.current})")
    remember(url, known, {line.slug: line.current for line in found if line.current and line.state == "up to date"})
    return 0


def _db_status(options: argparse.Namespace) -> int:
    from qanun.cli.standing import folders, orphans, standing

    url, known = _config().owner_database_url, folders()
    if (heads := standing(url, known)) is not None:
        well = True
        for slug, head in heads.items():
            print(f"{slug}: up to date ({head} of {head})")
    else:
        from qanun.db.migrations import status

        found = status(url, _lineages())
        well = all(line.state == "up to date" for line in found)
        for line in found:
            print(f"{line.slug}: {line.state} ({line.current or 'nothing'} of {line.head})")
    for slug in orphans(url, known):
        print(f"{slug}: orphaned (its plugin is not installed; its data is kept)")
    return 0 if well else 1


def _db_revision(options: argparse.Namespace) -> int:
    from qanun.db.lineage import Lineage
    from qanun.db.migrations import write_revision

    lineage = next((item for item in _lineages() if item.slug == options.slug), None)
    if lineage is None:
        import importlib

        package = "qanun" if options.slug == "core" else f"qanun_{options.slug}"
        folder = Path(str(importlib.import_module(package).__file__)).parent / "migrations"
        (folder / "versions").mkdir(parents=True, exist_ok=True)
        lineage = Lineage(options.slug, folder)
    written = write_revision(_config().owner_database_url, lineage, options.message)
    print(written or f"{options.slug}: models and database agree; nothing to write")
    return 0


def _serve(options: argparse.Namespace) -> int:
    from granian import Granian
    from granian.constants import HTTPModes, Interfaces, Loops

    _config()  # fail here, with a sentence, rather than in a worker
    # glibc keeps freed memory per thread; two arenas are enough for one event loop and a few helpers.
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    # Over HTTP/2 browsers send each cookie as a header of its own and the application would see one of them; where that
    # protocol is wanted the proxy speaks it.
    Granian(
        "qanun.app.asgi:create", factory=True, address=options.host, port=options.port, interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        workers=options.workers, loop=Loops.uvloop, respawn_failed_workers=True, websockets=True, backlog=1024,
        ssl_cert=options.certificate, ssl_key=options.certificate_key, log_access=False,
        workers_kill_timeout=5,
    ).serve()  # fmt: skip
    return 0


def _worker(options: argparse.Namespace) -> int:
    import asyncio
    import signal

    import uvloop

    from qanun.app import assemble, run_worker
    from qanun.app.logs import configure_logs

    configure_logs()

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await run_worker(assemble(_config()))

    uvloop.run(work())
    return 0


def _keys_create(options: argparse.Namespace) -> int:
    from qanun.crypto import ensure_master_key

    ensure_master_key(_config().master_key_file)
    return 0


def _demo_seed(options: argparse.Namespace) -> int:
    import asyncio

    from qanun.app import assemble
    from qanun.app.demo import PASSWORD, seed

    async def run() -> None:
        assembly = assemble(_config())
        try:
            for line in await seed(assembly, patients=options.patients):
                print(f"sign-in\t{line.clinic}\t{line.role}\t{line.name}\t{line.login}\t{line.path}")
        finally:
            await assembly.runtime.database.close()
        print(f"password\t{PASSWORD}")

    asyncio.run(run())
    return 0


def _plugins_list(options: argparse.Namespace) -> int:
    from qanun.app.build import gather

    for plugin in gather()[1].loaded:
        state = "runs" if plugin.plugin else f"set aside: {plugin.fault}"
        print(f"{plugin.slug}\t{plugin.version}\t{plugin.contributions} contributions\t{state}")
    return 0


def _audit_verify(options: argparse.Namespace) -> int:
    import asyncio

    from qanun.app import assemble
    from qanun.app.worker import tenants
    from qanun.audit import verify
    from qanun.tenancy import tenant_session

    async def run() -> int:
        runtime = assemble(_config()).runtime
        faults = 0
        try:
            for tenant in await tenants(runtime):
                async with tenant_session(runtime.database, tenant.id) as session:
                    verdict = await verify(session)
                faults += not verdict.holds
                print(f"{tenant.slug}: {verdict.events} events, {verdict.fault or 'the chain holds'}")
        finally:
            await runtime.database.close()
        return 1 if faults else 0

    return asyncio.run(run())


def _i18n(options: argparse.Namespace) -> int:
    from qanun.i18n import __main__ as command

    return int(command.main([options.action]) or 0)


def _plugin_slugs() -> set[str]:
    from importlib.metadata import entry_points

    return {entry.name for entry in entry_points(group="qanun.plugins")}


def _plugin_commands(slug: str) -> Sequence[CliCommand]:
    """A plugin may name its commands apart (entry point `qanun.commands`): then they come without the rest of the product,
    which takes longer to load than most of them take to run."""
    from importlib.metadata import entry_points

    for entry in entry_points(group="qanun.commands", name=slug):
        found: Sequence[CliCommand] = entry.load()
        return found
    from qanun.app import CliCommand
    from qanun.app.build import gather

    return gather()[0].all(CliCommand)


def _plugin_command(argv: list[str]) -> int:
    commands = {item.id: item for item in _plugin_commands(argv[0])}
    name = f"{argv[0]}.{argv[1]}" if len(argv) > 1 else ""
    if name not in commands:
        known = [item for item in commands.values() if item.id.startswith(f"{argv[0]}.")]
        for item in known:
            print(f"qanun {item.id.replace('.', ' ', 1)}\t{item.summary}")
        if not known:
            raise ConfigurationError(f"plugin {argv[0]} has no commands")
        return 2
    return commands[name].run(argv[2:])
