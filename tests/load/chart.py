"""The chart as a whole page, audit on, over many patients and observations; and what the web process costs at rest.

python -m tests.load chart [--patients 10000] [--observations 1000000] [--seconds 20]
"""

import argparse
import asyncio
import gzip
import random
import re
import time

from tests.load import http
from tests.load.bars import Bar, judged
from tests.load.clinic import Clinic, Server, clinic, server


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.load chart", description="The chart page under load.")
    parser.add_argument("--patients", type=int, default=10_000)
    parser.add_argument("--observations", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=50, help="requests a second, whatever the server does")
    parser.add_argument("--connections", type=int, default=8, help="busy connections in the second part")
    parser.add_argument("--seconds", type=float, default=20, help="of each part")
    parser.add_argument("--path", default="/emr/patients/{patient}", help="the page; {patient} is an id")
    options = parser.parse_args(arguments)
    with clinic() as made:
        began = time.perf_counter()
        patients = made.patients(options.patients)
        if options.observations:
            records(made, options.observations)
        made.analyse()
        print(
            f"{options.patients} patients, {options.observations} observations in {time.perf_counter() - began:.0f} s"
        )
        with server(made) as running:
            bars = asyncio.run(_measure(options, made, running, patients))
    return judged(bars)


#: LOINC code, UCUM unit, lowest value, how far above it values go.
_VITALS = (
    ("85354-9", "mm[Hg]", 95, 60),
    ("8867-4", "/min", 55, 45),
    ("8310-5", "Cel", 36, 3),
    ("59408-5", "%", 92, 8),
    ("29463-7", "kg", 48, 60),
    ("8302-2", "cm", 150, 45),
)


def records(made: Clinic, count: int) -> None:
    """A visit a year, allergies and problems for some, `count` vital signs over all patients and ten years."""
    author = "'00000000-0000-7000-8000-000000000000'::uuid"
    patient = "select id, row_number() over (order by id) - 1 place, count(*) over () total from core_patient"
    everybody = f"({patient}) p cross join generate_series(1, 10) n"
    visit = {
        "patient_id": "p.id",
        "status": "'finished'",
        "class_code": "'AMB'",
        "start": "now() - n * interval '1 year' + p.place % 300 * interval '1 day'",
        "signed_at": "now() - n * interval '1 year' + p.place % 300 * interval '1 day' + interval '1 hour'",
        "signed_by": author,
    }
    made.fill("emr_encounter", everybody, visit)
    some = f"({patient}) p where p.place % 4 = 0"
    made.fill(
        "emr_allergy",
        some,
        {"patient_id": "p.id", "substance": "'Penicillin'", "criticality": "'high'", "recorded_by": author},
    )
    made.fill(
        "emr_condition",
        some,
        {
            "patient_id": "p.id",
            "text": "'Hypertension'",
            "clinical_status": "'active'",
            "onset": "'2019'",
            "recorded_by": author,
        },
    )
    codes, units, lows, spans = (
        f"(array[{', '.join(repr(value) if isinstance(value, str) else str(value) for value in column)}])"
        for column in zip(*_VITALS, strict=True)
    )
    kind = f"[1 + n / p.total % {len(_VITALS)}]"
    made.fill(
        "emr_observation",
        # Patient by patient within a round, as they would come over the years.
        f"({patient}) p cross join lateral generate_series(p.place, {count - 1}, p.total) n",
        {
            "patient_id": "p.id",
            "code": f"{codes}{kind}",
            "value": f"{lows}{kind} + n * 7919 % {spans}{kind}",
            "value2": f"case when {codes}{kind} = '85354-9' then 60 + n % 35 end",
            "unit": f"{units}{kind}",
            "effective": "now() - (n / p.total) * interval '36 days' - n % 86400 * interval '1 second'",
            "recorded_by": author,
        },
    )


async def _measure(options: argparse.Namespace, made: Clinic, running: Server, patients: list[str]) -> list[Bar]:
    await asyncio.sleep(2)
    idle, together = running.largest() / 1e6, running.total() / 1e6
    headers = {"Cookie": made.cookie}
    chosen = random.Random(1).sample(patients, min(len(patients), 4000))
    paths = [options.path.format(patient=patient) for patient in chosen]
    first = http.Connection("127.0.0.1", running.port, headers)
    status, answered, body = await first.get(paths[0])
    if status != 200:
        raise RuntimeError(f"{paths[0]} answered {status}: {body[:300]!r}")
    page = gzip.decompress(body) if answered.get("content-encoding") == "gzip" else body
    scripts = await _scripts(first, page.decode())
    first.close()
    host = "127.0.0.1"
    await http.busy(host, running.port, paths, headers, connections=4, seconds=3)  # warm
    before, database = running.cpu(), made.database_cpu()
    steady = await http.steady(host, running.port, paths, headers, rate=options.rate, seconds=options.seconds)
    used, asked = running.cpu() - before, made.database_cpu() - database
    busy = await http.busy(host, running.port, paths, headers, connections=options.connections, seconds=options.seconds)
    print(f"page {len(page) / 1000:.1f} kB, as sent {len(body) / 1000:.1f} kB")
    for name, answers in ((f"{options.rate:g}/s", steady), (f"{options.connections} connections", busy)):
        print(
            f"{name:16} p50 {answers.percentile(0.5):7.1f} ms  p95 {answers.percentile(0.95):7.1f} ms  "
            f"p99 {answers.percentile(0.99):7.1f} ms  {answers.rate:7.1f}/s  {dict(answers.status)}"
        )
    print(
        f"web: {used / len(steady.seconds) * 1000:.1f} ms CPU a page, database {asked / len(steady.seconds) * 1000:.1f} ms, idle {idle:.0f} MB a process ({together:.0f} MB all), "
        f"after the load {running.total() / 1e6:.0f} MB (largest process {running.largest() / 1e6:.0f} MB)"
    )
    wrong = sum(count for answers in (steady, busy) for code, count in answers.status.items() if code != 200)
    return [
        Bar(f"chart p95 at {options.rate:g}/s", steady.percentile(0.95), 30, "ms"),
        Bar(f"charts/s at {options.connections} connections", busy.rate, 250, "/s", at_least=True),
        Bar("answers that were not 200", wrong, 0, ""),
        Bar("web process idle", idle, 300, "MB"),
        Bar("cold start", running.cold_start, 5, "s"),
        Bar("scripts of a first visit, gzipped", scripts / 1000, 150, "kB"),
    ]


async def _scripts(connection: http.Connection, page: str) -> int:
    """Gzipped bytes of every script that the page loads, directly or as a module of a module."""
    waiting = re.findall(r"<script[^>]+src=[\"']([^\"']+)", page)
    waiting += re.findall(r"rel=[\"']modulepreload[\"'][^>]+href=[\"']([^\"']+)", page)
    seen: set[str] = set()
    total = 0
    while waiting:
        path = waiting.pop().replace("&amp;", "&")
        if path in seen or "//" in path:
            continue
        seen.add(path)
        status, headers, body = await connection.get(path)
        if status != 200:
            raise RuntimeError(f"{path} answered {status}")
        text = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
        total += len(gzip.compress(text, 6))
        base = path.rsplit("/", 1)[0]
        for imported in re.findall(rb"""(?:from|import)\s*\(?["'](\.{1,2}/[^"']+|/[^"']+)["']""", text):
            name = imported.decode()
            waiting.append(name if name.startswith("/") else _joined(base, name))
    return total


def _joined(base: str, name: str) -> str:
    parts = base.split("/")
    for step in name.split("/"):
        if step == "..":
            parts.pop()
        elif step != ".":
            parts.append(step)
    return "/".join(parts)
