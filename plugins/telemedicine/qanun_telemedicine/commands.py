"""`qanun telemedicine …`: what this plugin's daemons need before they start, and how much they carry."""

from __future__ import annotations

import base64
import json
import os
import secrets
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from qanun.api import BadSignature, CliCommand, Config, ConfigurationError, verify_signature
from qanun_telemedicine.sfu.addresses import read_address
from qanun_telemedicine.turn import TurnSettings, configuration


def measure_load(arguments: Sequence[str]) -> int:
    """`load`: see `qanun_telemedicine.load`."""
    # Its libraries are large, and no other command needs them.
    from qanun_telemedicine.load.measure import command

    return command(arguments)


def drain(arguments: Sequence[str]) -> int:
    """`drain`: see `qanun_telemedicine.draining`."""
    from qanun_telemedicine.draining import command

    return command(arguments)


def _of_nodes(name: str) -> Callable[[Sequence[str]], int]:
    """A command of `qanun_telemedicine.nodes.commands`, which knows the database: loaded when it is run."""

    def run(arguments: Sequence[str]) -> int:
        from qanun_telemedicine.nodes import commands

        act: Callable[[Sequence[str]], int] = getattr(commands, name)
        return act(arguments)

    return run


def write_captions(arguments: Sequence[str]) -> int:
    """`captions`: the process that `QANUN_CAPTIONS` names a recogniser for. Raises ConfigurationError without one."""
    # Its libraries are large, and no other command needs them.
    import asyncio

    from qanun_telemedicine.captions.recognisers import recogniser
    from qanun_telemedicine.captions.service import run

    config = Config.from_environment()
    if config.captions_socket is None:
        raise ConfigurationError("QANUN_CAPTIONS names no recogniser")
    asyncio.run(run(recogniser(config.captions, config.captions_model), config.captions_socket))
    return 0


def turn_configuration(arguments: Sequence[str]) -> int:
    """Write `{state_dir}/turn/turnserver.conf`, readable by this user only, and make the shared secret if there is none.

    Listens on `QANUN_TURN_LISTEN`, relays to `QANUN_MEDIA_ADVERTISE`, to `QANUN_MEDIA_NODES` and to nothing else. Raises ConfigurationError when
    either is missing: a relay that guesses whom it may reach is an open door.
    """
    config = Config.from_environment()
    if config.turn_secret_file is None or not config.turn_listen or not config.media_advertise:
        raise ConfigurationError(
            "QANUN_TURN_SECRET_FILE, QANUN_TURN_LISTEN and QANUN_MEDIA_ADVERTISE are needed for TURN"
        )
    folder = config.state_dir / "turn"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    certified = config.turn_certificate is not None and config.turn_certificate.is_file()
    settings = TurnSettings(
        realm="qanun",
        addresses=config.turn_listen,
        peers=[read_address(host, 0)[0] for host in (*config.media_advertise, *config.media_nodes)],
        port=config.turn_port,
        tls_port=config.turn_tls_port,
        # An authority may not have given one yet: until then there is no TLS.
        certificate=config.turn_certificate if certified else None,
        private_key=config.turn_certificate_key if certified else None,
        external=config.turn_external or None,
    )
    text = configuration(settings, _secret(config.turn_secret_file), folder)
    partial = folder / "turnserver.conf.new"
    _write_private(partial, text)
    partial.replace(folder / "turnserver.conf")
    return 0


def verify_certificate(arguments: Sequence[str]) -> int:
    """Check the signature of a saved certificate or an export's slip, without a database: 0 genuine, 1 not, 2 unreadable.

    `verify-certificate FILE [PUBLIC KEY IN HEX]`: without a key that was had from the clinic by another way, it only says
    that the document was signed with the key that it names.
    """
    if not 1 <= len(arguments) <= 2:
        print("verify-certificate FILE [PUBLIC KEY IN HEX]", file=sys.stderr)
        return 2
    try:
        saved = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
        body = str(saved["body"])
        public, signature = (base64.b64decode(saved[name], validate=True) for name in ("public_key", "signature"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"this is no certificate: {type(error).__name__}", file=sys.stderr)
        return 2
    if len(arguments) == 2 and arguments[1].lower() != public.hex():
        print(f"signed with another key: {public.hex()}", file=sys.stderr)
        return 1
    try:
        verify_signature(public, signature, body.encode())
    except BadSignature:
        print("the signature does not fit: the document was changed", file=sys.stderr)
        return 1
    print(json.dumps(json.loads(body), indent=2, ensure_ascii=False))
    print(f"genuine: signed with the key {public.hex()}")
    return 0


def _secret(path: Path) -> str:
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_private(path, secrets.token_urlsafe(32))
    return path.read_text(encoding="ascii").strip()


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        file.write(text)
    path.chmod(0o600)


COMMANDS = (
    CliCommand(
        id="telemedicine.turn-configuration", run=turn_configuration,
        summary="write coturn's configuration from this process's, and make its secret if there is none",
    ),
    CliCommand(
        id="telemedicine.captions", run=write_captions,
        summary="run the recogniser that writes captions of calls, until told to stop",
    ),
    CliCommand(
        id="telemedicine.load", run=measure_load,
        summary="measure how many calls this machine carries, with a media worker of its own",
    ),
    CliCommand(
        id="telemedicine.drain", run=drain,
        summary="take no new call on this machine, and wait for those that go on (--wait SECONDS, --off)",
    ),
    CliCommand(
        id="telemedicine.verify-certificate", run=verify_certificate,
        summary="check the signature of a deletion's certificate or an export's slip; needs no database",
    ),
    CliCommand(
        id="telemedicine.nodes", run=_of_nodes("nodes"),
        summary="media nodes on other machines, with their load (--json for programs)",
    ),
    CliCommand(
        id="telemedicine.node", run=_of_nodes("node"),
        summary="invite, drain, resume or revoke a media node; on the node itself: join, run",
    ),
    CliCommand(
        id="telemedicine.nodes-gateway", run=_of_nodes("nodes_gateway"),
        summary="run the place where media nodes call in, until told to stop",
    ),
)  # fmt: skip
