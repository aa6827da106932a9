"""The first clinic, headless: from the site file, with a password that only this machine's root can read."""

from __future__ import annotations

import asyncio
from pathlib import Path

from qanun.api import Config, Conflict, NewClinic, assemble, found_clinic
from qanun_appliance.places import Places
from qanun_appliance.secrets import write_private
from qanun_appliance.site import Site


def found(site: Site, places: Places, password: str, config: Config | None = None) -> str:
    """Returns `made`, `there already` or `waits` (the site names no administrator). Runs as the web server's account."""
    mark = places.keys / "founded"
    if not site.administrator_email:
        return "waits"
    clinic = NewClinic(
        slug=site.clinic.slug, name=site.clinic.name, name_alt=site.clinic.name_alt, locale=site.language,
        timezone=site.clinic.timezone, currency=site.clinic.currency, country=site.clinic.country, phone=site.clinic.phone,
    )  # fmt: skip
    outcome = "made"

    async def run() -> None:
        assembly = assemble(config or Config.from_environment())
        try:
            await found_clinic(
                assembly,
                clinic,
                administrator=site.administrator_name,
                email=site.administrator_email,
                password=password,
            )
        finally:
            await assembly.runtime.database.close()

    try:
        asyncio.run(run())
    except Conflict:
        outcome = "there already"
    write_private(mark, b"")
    return outcome


def password_of(path: Path) -> str:
    """The first line of the file; empty files give an empty password, which is refused later."""
    return (path.read_text(encoding="utf-8").splitlines() or [""])[0].strip()
