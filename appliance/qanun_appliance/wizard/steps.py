"""The pages' fields, and from what was typed to a site's table: the reader of `site.toml` decides whether it is right.

Every sentence of a fault that a person may see is here in words of the page; what has none is shown as the reader says it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from qanun.api import N_, Invalid, acceptable_password
from qanun_appliance.site import parse_site
from qanun_appliance.site_table import SiteFault
from qanun_appliance.wizard import disks
from qanun_appliance.wizard.countries import currency_of, zone_of
from qanun_appliance.wizard.desk import Answers


@dataclass(frozen=True, slots=True)
class Step:
    """`template` is its page. `fields` are the form's names; each belongs to a field of the site file, or to none (a secret, a choice of the page)."""

    name: str
    label: Any
    template: str
    fields: Mapping[str, str]


STEPS = (
    Step("language", N_("Language"), "appliance/setup/language.html", {"language": "language", "country": "clinic.country"}),
    Step("clinic", N_("Clinic"), "appliance/setup/clinic.html", {
        "name": "clinic.name", "name_alt": "clinic.name_alt", "slug": "clinic.slug", "timezone": "clinic.timezone",
        "currency": "clinic.currency", "phone": "clinic.phone",
    }),
    Step("network", N_("Network"), "appliance/setup/network.html", {
        "mode": "network.mode", "interface": "network.interface", "address": "network.address", "gateway": "network.gateway",
        "dns": "network.dns", "hostname": "network.hostname", "host": "hosts.names",
    }),
    Step("administrator", N_("Administrator"), "appliance/setup/administrator.html", {
        "admin_name": "administrator.name", "admin_email": "administrator.email", "password": "", "again": "",
    }),
    Step("backup", N_("Backup"), "appliance/setup/backup.html", {"kind": "", "target": "backup.target", "at": "backup.at"}),
    Step("key", N_("Recovery key"), "appliance/setup/key.html", {"typed": "", "typed_disk": ""}),
    Step("time", N_("Time"), "appliance/setup/time.html", {"servers": "time.servers"}),
    Step("certificate", N_("Certificate"), "appliance/setup/certificate.html", {
        "kind": "certificate.kind", "email": "certificate.email", "directory": "certificate.directory",
    }),
    Step("summary", N_("Summary"), "appliance/setup/summary.html", {}),
)  # fmt: skip
NAMES = tuple(step.name for step in STEPS)

_NEEDED = N_("This is needed.")
_WRONG: Mapping[str, Any] = {
    "clinic.slug": N_("Small letters, digits and hyphens only, like al-razi."),
    "clinic.timezone": N_("Choose a time zone of the list."),
    "clinic.currency": N_("Three capital letters, like MAD."),
    "clinic.country": N_("Choose a country of the list."),
    "network.address": N_("An address with the length of its network, like 192.168.1.10/24."),
    "network.gateway": N_("An address, like 192.168.1.1."),
    "network.dns": N_("Addresses, one a line, like 192.168.1.1."),
    "network.hostname": N_("Small letters, digits and hyphens only, like qanun."),
    "hosts.names": N_("A name in small letters, like clinic.lan, or an address."),
    "administrator.email": N_("That is not an e-mail address."),
    "administrator": N_("Both the name and the e-mail are needed."),
    "backup.target": N_("A folder, like /mnt/backup, or an address that begins with sftp:, rest: or s3:."),
    "backup.disk": N_("This disk cannot be named; choose another one."),
    "backup.at": N_("A time of day, like 02:00."),
    "time.servers": N_("Names or addresses, one a line."),
    "certificate.email": N_("That is not an e-mail address."),
    "certificate.directory": N_("An address that begins with https://."),
}
NO_PUBLIC_NAME = N_("A public certificate needs a public name: go back to Network and type it there.")


def step(name: str) -> Step | None:
    return next((one for one in STEPS if one.name == name), None)


def following(name: str) -> str:
    return NAMES[min(NAMES.index(name) + 1, len(NAMES) - 1)]


def preceding(name: str) -> str:
    return NAMES[max(NAMES.index(name) - 1, 0)]


def _lines(text: str) -> list[str]:
    return [word for word in re.split(r"[\s,;]+", text.strip()) if word]


def suggested_slug(*names: str) -> str:
    """A short name out of the clinic's, as far as it is written in letters that an address can have."""
    for name in names:
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-")
        if len(slug) > 1:
            return slug
    return "clinic"


def usual(answers: Answers, current: Mapping[str, Any], language: str) -> Answers:
    """What each page shows before anybody typed: `current` is the network as it is now."""
    country = answers.get("language", {}).get("country", "")
    clinic = answers.get("clinic", {})
    return {
        "language": {"language": language, "country": ""},
        "clinic": {
            "name": "", "name_alt": "", "slug": suggested_slug(clinic.get("name", ""), clinic.get("name_alt", "")),
            "timezone": zone_of(country), "currency": currency_of(country), "phone": "",
        },
        "network": {
            "mode": "dhcp", "interface": str(current.get("interface", "")) or "en*", "address": str(current.get("address", "")),
            "gateway": str(current.get("gateway", "")), "dns": "\n".join(current.get("dns", ())), "hostname": "qanun", "host": "",
        },
        "administrator": {"admin_name": "", "admin_email": "", "password": "", "again": ""},
        "backup": {"kind": "folder", "target": "", "at": "02:00"},
        "key": {"typed": "", "typed_disk": ""},
        "time": {"servers": str(current.get("gateway", ""))},
        "certificate": {"kind": "own", "email": "", "directory": ""},
        "summary": {},
    }  # fmt: skip


def filled(answers: Answers, current: Mapping[str, Any], language: str) -> Answers:
    """What was typed where something was, otherwise what is usual."""
    found = usual(answers, current, language)
    for name, values in found.items():
        values.update(answers.get(name, {}))
    if not found["clinic"]["slug"]:
        found["clinic"]["slug"] = suggested_slug(found["clinic"]["name"], found["clinic"]["name_alt"])
    return found


def table(answers: Answers, current: Mapping[str, Any]) -> dict[str, Any]:
    """The site's table out of filled-in answers."""
    clinic, network, people = answers["clinic"], answers["network"], answers["administrator"]
    backup, certificate = answers["backup"], answers["certificate"]
    static = network["mode"] == "static"
    # People open the name; where there is none, the address that they typed or that the machine has now.
    address = network["address"].split("/")[0] if static else str(current.get("address", "")).split("/")[0]
    hosts = [*_lines(network["host"].lower()), *([address] if address else [])]
    managed: dict[str, Any] = {
        "mode": network["mode"],
        "hostname": network["hostname"],
        "interface": network["interface"],
    }
    if static:
        managed |= {"address": network["address"], "gateway": network["gateway"], "dns": _lines(network["dns"])}
    certified: dict[str, Any] = {"kind": certificate["kind"]}
    if certificate["kind"] == "acme":
        certified |= {name: certificate[name] for name in ("email", "directory") if certificate[name]}
        hosts = hosts[:1] if _lines(network["host"]) else hosts
    return {
        "version": 1,
        "language": answers["language"]["language"],
        "clinic": {
            "name": clinic["name"], "name_alt": clinic["name_alt"], "slug": clinic["slug"], "timezone": clinic["timezone"],
            "currency": clinic["currency"].upper(), "country": answers["language"]["country"], "phone": clinic["phone"],
        },
        "administrator": {"name": people["admin_name"], "email": people["admin_email"]},
        "hosts": {"names": list(dict.fromkeys(hosts))},
        "network": managed,
        "time": {"servers": _lines(answers["time"]["servers"])},
        "certificate": certified,
        "backup": {**_where_to(backup), "at": backup["at"]},
        "ssh": {"mode": "off"},
    }  # fmt: skip


def _where_to(backup: Mapping[str, str]) -> dict[str, str]:
    if disks.is_choice(backup["kind"]):
        return {"disk": disks.uuid_of(backup["kind"]), "target": disks.TARGET}
    return {"target": "" if backup["kind"] == "later" else backup["target"]}


#: Fields that the site file may leave empty and that a machine which is set up by hand may not.
_MUST = ("clinic.country", "administrator.name", "administrator.email", "network.interface")


def faults(answers: Answers, current: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Step → field → sentence, over everything; the same reader as for a file decides."""
    wanted = table(answers, current)
    found: dict[str, dict[str, Any]] = {}
    try:
        parse_site(wanted)
    except SiteFault as fault:
        for name, said in fault.faults:
            _note(found, name, said, wanted)
    for name in _MUST:
        section, _, field = name.partition(".")
        if not str(wanted[section].get(field, "")).strip():
            _note(found, name, "is empty", wanted)
    for check in (_secret, _kept_key, _target):
        for step_name, field, sentence in check(answers, keys):
            found.setdefault(step_name, {}).setdefault(field, sentence)
    return found


def _note(found: dict[str, dict[str, Any]], name: str, said: str, wanted: Mapping[str, Any]) -> None:
    if name == "hosts.names" and wanted["certificate"]["kind"] == "acme" and "public" in said:
        found.setdefault("certificate", {}).setdefault("kind", NO_PUBLIC_NAME)
        return
    # A fault of a section belongs to its first field.
    where = next(
        ((one.name, field) for one in STEPS for field, site in one.fields.items() if site == name or site.startswith(f"{name}.")),
        ("summary", name),
    )  # fmt: skip
    empty = said in {"is empty", "is missing"} or said.startswith("needs at least")
    found.setdefault(where[0], {}).setdefault(where[1], _NEEDED if empty else _WRONG.get(name, said))


Checked = Iterable[tuple[str, str, Any]]


def _secret(answers: Answers, _: Mapping[str, str]) -> Checked:
    typed = answers["administrator"]
    try:
        acceptable_password(typed["password"])
    except Invalid as wrong:
        yield "administrator", "password", _NEEDED if not typed["password"] else wrong.fields["password"]
    else:
        if not typed["password"].isprintable() or typed["password"] != typed["password"].strip():
            yield "administrator", "password", N_("One line, without blanks at its ends.")
        elif typed["again"] != typed["password"]:
            yield "administrator", "again", N_("The two are not the same.")


def _kept_key(answers: Answers, keys: Mapping[str, str]) -> Checked:
    """Part of each printed key is typed back: what nobody wrote down opens nothing."""
    for field, key in (("typed", keys.get("backup", "")), ("typed_disk", keys.get("disk", ""))):
        if key and answers["key"][field].strip().upper() != key.strip().upper().rsplit("-", 1)[-1]:
            yield "key", field, N_("That is not the last group of this key.")


def _target(answers: Answers, _: Mapping[str, str]) -> Checked:
    backup = answers["backup"]
    if backup["kind"] in {"folder", "store"} and not backup["target"].strip():
        yield "backup", "target", _NEEDED
