"""Process configuration: what a process must know before it can ask the database anything.

Read once from `QANUN_*` environment variables. Everything a clinic may change while running is a typed *setting*
(`qanun.settings`), not configuration.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qanun.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Values of one process. URLs are SQLAlchemy-free `postgresql://` URLs; paths are absolute."""

    database_url: str
    owner_database_url: str
    state_dir: Path
    master_key_file: Path
    base_url: str = "http://localhost:8000"
    locale_dir: Path | None = None
    media_socket: Path | None = None
    media_listen: str = "[::]:8100"
    media_advertise: tuple[str, ...] = ()
    media_nodes: tuple[str, ...] = ()
    media_nodes_listen: str = "[::]:8110"
    turn_urls: tuple[str, ...] = ()
    turn_listen: tuple[str, ...] = ()
    turn_port: int = 3478
    turn_secret_file: Path | None = None
    turn_tls_port: int = 5349
    turn_certificate: Path | None = None
    turn_certificate_key: Path | None = None
    turn_external: str = ""
    #: What recognises speech for captions: `pocketsphinx`, or the address of a speech server in the clinic's own network.
    captions: str = ""
    captions_model: str = "whisper-1"
    captions_socket: Path | None = None
    #: The mail server that takes what the clinic sends; without one no mail is sent.
    smtp_host: str = ""
    smtp_port: int = 587
    #: `starttls`, `tls` (from the first octet), or `none` for one on this machine or in the clinic's own network.
    smtp_security: str = "starttls"
    smtp_user: str = ""
    smtp_password_file: Path | None = None
    mail_from: str = ""
    pool_size: int = 8
    secure_cookies: bool = False
    development: bool = False

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Config:
        """Raises ConfigurationError naming the variable that is missing or malformed."""

        def need(name: str) -> str:
            value = environ.get(name, "").strip()
            if not value:
                raise ConfigurationError(f"{name} is not set")
            return value

        def path(name: str) -> Path | None:
            value = environ.get(name, "").strip()
            return Path(value).resolve() if value else None

        def items(name: str) -> tuple[str, ...]:
            return tuple(part.strip() for part in environ.get(name, "").split(",") if part.strip())

        def number(name: str, usual: int) -> int:
            try:
                return int(environ.get(name, "").strip() or usual)
            except ValueError:
                raise ConfigurationError(f"{name} is not a whole number") from None

        def choice(name: str, values: tuple[str, ...]) -> str:
            value = environ.get(name, "").strip() or values[0]
            if value not in values:
                raise ConfigurationError(f"{name} is none of {', '.join(values)}")
            return value

        state = Path(need("QANUN_STATE_DIR")).resolve()
        base_url = environ.get("QANUN_BASE_URL", "http://localhost:8000").rstrip("/")
        database_url = need("QANUN_DATABASE_URL")
        captions = environ.get("QANUN_CAPTIONS", "").strip()
        return cls(
            database_url=database_url,
            owner_database_url=environ.get("QANUN_OWNER_DATABASE_URL", "").strip() or database_url,
            state_dir=state,
            master_key_file=path("QANUN_MASTER_KEY_FILE") or state / "master.key",
            base_url=base_url,
            locale_dir=path("QANUN_LOCALE_DIR"),
            media_socket=path("QANUN_MEDIA_SOCKET"),
            media_listen=environ.get("QANUN_MEDIA_LISTEN", "[::]:8100"),
            media_advertise=items("QANUN_MEDIA_ADVERTISE"),
            media_nodes=items("QANUN_MEDIA_NODES"),
            media_nodes_listen=environ.get("QANUN_MEDIA_NODES_LISTEN", "[::]:8110"),
            turn_urls=items("QANUN_TURN_URLS"),
            turn_listen=items("QANUN_TURN_LISTEN"),
            turn_port=number("QANUN_TURN_PORT", 3478),
            turn_secret_file=path("QANUN_TURN_SECRET_FILE"),
            turn_tls_port=number("QANUN_TURN_TLS_PORT", 5349),
            turn_certificate=path("QANUN_TURN_CERTIFICATE"),
            turn_certificate_key=path("QANUN_TURN_CERTIFICATE_KEY"),
            turn_external=environ.get("QANUN_TURN_EXTERNAL", "").strip(),
            captions=captions,
            captions_model=environ.get("QANUN_CAPTIONS_MODEL", "").strip() or "whisper-1",
            captions_socket=path("QANUN_CAPTIONS_SOCKET") or state / "captions.sock" if captions else None,
            smtp_host=environ.get("QANUN_SMTP_HOST", "").strip(),
            smtp_port=number("QANUN_SMTP_PORT", 587),
            smtp_security=choice("QANUN_SMTP_SECURITY", ("starttls", "tls", "none")),
            smtp_user=environ.get("QANUN_SMTP_USER", "").strip(),
            smtp_password_file=path("QANUN_SMTP_PASSWORD_FILE"),
            mail_from=environ.get("QANUN_MAIL_FROM", "").strip(),
            pool_size=number("QANUN_POOL_SIZE", 8),
            secure_cookies=base_url.startswith("https://"),
            development=environ.get("QANUN_DEVELOPMENT", "") == "1",
        )
