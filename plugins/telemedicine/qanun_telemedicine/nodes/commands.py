"""`qanun telemedicine nodes | node … | nodes-gateway`: media nodes from the command line, on the clinic's machine and on the node.

On a node there is no clinic, no database and no configuration: what it needs to know stands in its own folder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from qanun.api import Config, ConfigurationError

#: Where a node keeps its key and who it belongs to.
NODE_FOLDER = Path("/var/lib/qanun-node")
#: Where the media worker's socket lies on an appliance.
MEDIA_SOCKET = "/run/qanun/media.sock"


def folder(config: Config) -> Path:
    """Where the clinic's machine keeps its list of nodes."""
    return config.state_dir / "nodes"


def nodes_gateway(arguments: Sequence[str]) -> int:
    """Until told to stop. Raises ConfigurationError where no node may be."""
    from qanun_telemedicine.nodes.gateway import run

    config = Config.from_environment()
    if config.media_socket is None or not config.media_nodes:
        raise ConfigurationError("QANUN_MEDIA_SOCKET and QANUN_MEDIA_NODES (the nodes' addresses) are needed for nodes")
    return run(
        folder(config), config.media_socket, config.media_nodes_listen, list(config.media_nodes), config.base_url
    )


def nodes(arguments: Sequence[str]) -> int:
    """List them. 0 when all that joined serve, 1 when one is silent or the gateway does not answer."""
    from qanun_telemedicine.nodes.gateway import Order

    parser = argparse.ArgumentParser(prog="qanun telemedicine nodes")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(arguments)
    code, found = _ask(Order("list"))
    if code:
        return code
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        for one in found:
            print(_line(one))
        if not found:
            print("no media nodes: qanun telemedicine node invite --name NAME --address ADDRESS")
    return int(any(one["state"] == "silent" for one in found))


def _line(one: dict[str, Any]) -> str:
    words = [one["name"], "drains" if one["draining"] and one["state"] == "serving" else one["state"]]
    if one["state"] == "invited":
        words.append(f"token good for {max(0, one['expires'] - time.time()) / 60:.0f} min")
    elif one["state"] == "silent":
        words.append(f"last heard {max(0, time.time() - one['heard']):.0f} s ago")
    else:
        words.append(f"{len(one['workers'])} workers, {one['rooms']} rooms, {one['participants']} people")
        words.append(f"processor {one['cpu'] * 100:.0f} %, {one['packets']:.0f} packets/s")
    return "\t".join([*words, ", ".join(one["addresses"]), one["release"]])


def node(arguments: Sequence[str]) -> int:
    """`invite`, `drain`, `resume`, `revoke` on the clinic's machine; `join` and `run` on the node."""
    parser = argparse.ArgumentParser(prog="qanun telemedicine node")
    actions = parser.add_subparsers(dest="action", required=True)
    invite = actions.add_parser("invite", help="make a token with which one machine can join, once")
    invite.add_argument("--name", required=True)
    invite.add_argument(
        "--address",
        action="append",
        required=True,
        help="where browsers reach its media (IPv4 or IPv6; may be given again)",
    )
    invite.add_argument("--minutes", type=float, default=60.0, help="how long the token is good for")
    invite.set_defaults(run=_invite)
    for action, told in (
        ("drain", "give it no new room; its calls go on"),
        ("resume", "let it take rooms again"),
        ("revoke", "shut it out at once; its calls go on at other workers"),
    ):
        order = actions.add_parser(action, help=told)
        order.add_argument("name")
        order.set_defaults(run=_order)
    join = actions.add_parser("join", help="on the node: become one of a clinic's")
    join.add_argument("clinic", help="the clinic's address, like https://clinic.example")
    join.add_argument("--token", default="", help="from the invitation; asked for when it is not given")
    join.set_defaults(run=_join)
    run = actions.add_parser("run", help="on the node: serve, until told to stop")
    run.add_argument(
        "--listen",
        default="[::]:8100",
        help="IP:PORT for media, [::]:PORT for IPv4 and IPv6; one more port for each further worker",
    )
    run.add_argument("--workers", type=int, default=0, help="how many; one per core when not given")
    run.add_argument("--engine", choices=("auto", "c", "python"), default="auto")
    run.set_defaults(run=_run)
    for own in (join, run):
        own.add_argument("--folder", type=Path, default=NODE_FOLDER, help="where the node keeps its key")
    options = parser.parse_args(arguments)
    code: int = options.run(options)
    return code


def _invite(options: argparse.Namespace) -> int:
    from qanun_telemedicine.nodes.gateway import Order, who

    code, made = _ask(Order("invite", options.name, options.address, options.minutes * 60, who()))
    if code:
        return code
    until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(made["expires"]))
    print(f"qanun telemedicine node join {made['clinic']} --token {made['token']}")
    print(f"Run this on the node. It works once, until {until}.", file=sys.stderr)
    return 0


def _order(options: argparse.Namespace) -> int:
    from qanun_telemedicine.nodes.gateway import Order, who

    code, done = _ask(Order(options.action, options.name, by=who()))
    if not code:
        words = {"drain": "takes no new rooms", "resume": "takes rooms again", "revoke": "is shut out"}[options.action]
        print(f"{done['name']} {words}")
    return code


def _ask(order: Any) -> tuple[int, Any]:
    """(exit code, what the gateway says)."""
    from qanun_telemedicine.nodes.gateway import order as ask
    from qanun_telemedicine.nodes.registry import Refusal

    # Not the whole configuration: whoever types this on the clinic's machine has none of it in the environment.
    socket = Path(os.environ.get("QANUN_MEDIA_SOCKET", "").strip() or MEDIA_SOCKET)
    try:
        return 0, asyncio.run(ask(socket.with_name("nodes.sock"), order))
    except Refusal as refusal:
        print(f"qanun: {refusal}", file=sys.stderr)
    except (OSError, TimeoutError):
        print(
            "qanun: nothing answers for media nodes. Are their addresses named in [media] nodes of the site file "
            "(QANUN_MEDIA_NODES), and does qanun-nodes run? May you speak to it?",
            file=sys.stderr,
        )
    return 1, None


def _join(options: argparse.Namespace) -> int:
    from qanun_telemedicine.nodes import agent
    from qanun_telemedicine.nodes.identity import BadToken, Token

    text = options.token or (input("Token: ") if sys.stdin.isatty() else sys.stdin.readline())

    async def join() -> int:
        member = await agent.join(options.folder, options.clinic, Token.read(text))
        print(f"This machine is now the media node {member.name!r}. Start it with: qanun telemedicine node run")
        return 0

    try:
        return _node_work(join())
    except BadToken as error:
        print(f"qanun: {error}", file=sys.stderr)
        return 1


def _node_work(work: Coroutine[Any, Any, int]) -> int:
    from qanun_telemedicine.nodes.registry import Refusal

    try:
        return asyncio.run(work)
    except Refusal as refusal:
        print(f"qanun: {refusal}", file=sys.stderr)
    except OSError as error:
        print(f"qanun: the clinic's machine cannot be reached: {error}", file=sys.stderr)
    return 1


def _run(options: argparse.Namespace) -> int:
    from qanun_telemedicine.nodes import agent
    from qanun_telemedicine.nodes.registry import Refusal
    from qanun_telemedicine.sfu.addresses import read_address

    workers = options.workers or len(os.sched_getaffinity(0))
    try:
        place = agent.Place(*read_address(options.listen), workers, options.engine)
    except ValueError as error:
        print(f"qanun: --listen: {error}", file=sys.stderr)
        return 1
    try:
        return agent.run(options.folder, place)
    except Refusal as refusal:
        print(f"qanun: {refusal}", file=sys.stderr)
    return 1
