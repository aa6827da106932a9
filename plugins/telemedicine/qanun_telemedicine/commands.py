"""`qanun telemedicine …`: what this plugin's daemons need before they start."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from qanun.api import Config, ConfigurationError
from qanun_telemedicine.turn import TurnSettings, configuration


def turn_configuration(arguments: Sequence[str]) -> int:
    """Write `{state_dir}/turn/turnserver.conf`, readable by this user only, and make the shared secret if there is none.

    Listens on `QANUN_TURN_LISTEN`, relays to `QANUN_MEDIA_ADVERTISE` and to nothing else. Raises ConfigurationError when
    either is missing: a relay that guesses whom it may reach is an open door.
    """
    config = Config.from_environment()
    if config.turn_secret_file is None or not config.turn_listen or not config.media_advertise:
        raise ConfigurationError(
            "QANUN_TURN_SECRET_FILE, QANUN_TURN_LISTEN and QANUN_MEDIA_ADVERTISE are needed for TURN"
        )
    folder = config.state_dir / "turn"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = TurnSettings(
        realm="qanun",
        addresses=config.turn_listen,
        peers=[host.partition(":")[0] for host in config.media_advertise],
        port=config.turn_port,
        tls_port=config.turn_tls_port,
        certificate=config.turn_certificate,
        private_key=config.turn_certificate_key,
        external=config.turn_external or None,
    )
    text = configuration(settings, _secret(config.turn_secret_file), folder)
    partial = folder / "turnserver.conf.new"
    _write_private(partial, text)
    partial.replace(folder / "turnserver.conf")
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
