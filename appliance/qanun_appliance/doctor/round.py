"""The round: every check in turn. None may stop the others, and none changes anything."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from qanun.api import QanunError, SystemService
from qanun_appliance.doctor import checks, keeping
from qanun_appliance.doctor.finding import ORDER, Finding, Level, crit
from qanun_appliance.places import Places
from qanun_appliance.secrets import give, write_private


def worst(findings: Iterable[Finding]) -> Level:
    return max((finding.level for finding in findings), key=ORDER.index, default="ok")


def examine(places: Places, services: Sequence[SystemService]) -> list[Finding]:
    """Everything, the worst first and otherwise in the order of the round."""
    from qanun_appliance.site import load_site
    from qanun_appliance.site_table import SiteFault

    try:
        site = load_site(places.site)
    except SiteFault as fault:
        name, why = fault.faults[0]
        return [crit("site.wrong", why=f"{name}: {why}")]
    rounds: list[Callable[[], list[Finding]]] = [
        lambda: checks.setup(site, places, services),
        lambda: checks.answers(site, places),
        checks.units,
        lambda: checks.media_nodes(site, places),
        lambda: checks.schema(places),
        lambda: keeping.backups(site, places),
        lambda: keeping.backup_disk(site, places),
        lambda: keeping.recovery_key(site, places),
        lambda: keeping.rolled_back(places),
        lambda: keeping.clusters(places),
        lambda: checks.disk(places),
        checks.memory,
        checks.clock,
        lambda: checks.certificate(site, places),
        lambda: checks.ports(site, services),
        checks.firewall,
        lambda: checks.closed(places),
        lambda: checks.startup_key(places),
        lambda: checks.other_systems(places),
    ]
    found: list[Finding] = []
    for check in rounds:
        try:
            found += check()
        except (OSError, QanunError, ValueError, KeyError) as error:
            # A check that cannot look is no reason not to look at the rest.
            name = getattr(check, "__name__", "check")
            found.append(Finding("check.failed", "info", {"why": f"{name}: {error}"}))
    return sorted(found, key=lambda finding: -ORDER.index(finding.level))


def written(places: Places, findings: Sequence[Finding]) -> dict[str, Any]:
    """The report as the pages read it, put where they find it."""
    report = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"), "version": version("qanun"), "level": worst(findings),
        "findings": [asdict(finding) for finding in findings],
    }  # fmt: skip
    path = places.reports / "doctor.json"
    write_private(path, json.dumps(report, indent=1).encode(), 0o640)
    give(path, places, "root", "qanun")
    return report
