"""The C engine as a library: built where a compiler is, done without where none is, and clean under the sanitizers."""

import asyncio
import logging
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from qanun_telemedicine.sfu import native
from qanun_telemedicine.sfu.client import MediaClient
from qanun_telemedicine.sfu.engines import open_engine
from qanun_telemedicine.sfu.native import Unavailable

from .conftest import next_port, own_address
from .engines import ENGINES, needs_c

PLUGIN = Path(__file__).parents[2]
HARNESS = Path(__file__).with_name("fuzz_engine.c")
#: No crash is found by running long what has been run for hours: enough to notice what a change breaks.
STEPS, SEEDS = 150_000, (1, 2, 3)

needs_compiler = pytest.mark.skipif(native.compiler() is None, reason="there is no C compiler")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the source without its library, where the module looks."""
    folder = tmp_path / "native"
    shutil.copytree(native.FOLDER, folder, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    monkeypatch.setattr(native, "FOLDER", folder)
    native.load.cache_clear()
    yield folder
    native.load.cache_clear()


def test_where_nothing_can_compile_the_python_engine_runs_and_the_log_says_so(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(native, "compiler", lambda: None)
    monkeypatch.setattr(native, "_in_a_checkout", lambda: True)
    with caplog.at_level(logging.INFO):
        engine = open_engine("auto", ("127.0.0.1", 0))
    engine.close()
    assert engine.kind == "python"
    assert "there is no C compiler" in caplog.text and "media engine: python" in caplog.text
    with pytest.raises(Unavailable):
        open_engine("c", ("127.0.0.1", 0))
    assert not list(elsewhere.glob("*.so"))


@needs_compiler
def test_what_is_installed_is_not_compiled_behind_anybodys_back(elsewhere: Path) -> None:
    assert not native._in_a_checkout()
    with pytest.raises(Unavailable, match="without its library"):
        native.load()
    assert not list(elsewhere.glob("*.so"))


@needs_compiler
def test_a_changed_source_is_built_anew_and_its_old_library_goes(elsewhere: Path) -> None:
    before = native.build()
    assert before.exists() and native.build() == before
    with (elsewhere / "engine.c").open("a") as source:
        source.write("/* another one */\n")
    after = native.build()
    assert after != before and after.exists() and not before.exists()
    with (elsewhere / "engine.c").open("a") as source:
        source.write("broken")
    with pytest.raises(Unavailable, match="refused the source"):
        native.build()
    assert [one.name for one in elsewhere.glob("*.so")] == [after.name]
    assert not list(elsewhere.glob(".engine-*")), "nothing half done lies around"


@pytest.mark.parametrize("found", [pytest.param(True, marks=needs_compiler), False], ids=["compiler", "no compiler"])
def test_the_wheel_brings_the_library_along_where_it_could_be_built(tmp_path: Path, found: bool) -> None:
    source = tmp_path / "source"
    shutil.copytree(PLUGIN, source, ignore=shutil.ignore_patterns("tests", "*.so", "__pycache__", "static"))
    environment = {**os.environ, "PYTHONPATH": ""} if found else {"PATH": str(tmp_path)}
    code = f"import hatchling.build; print(hatchling.build.build_wheel({str(tmp_path)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=source,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    name = done.stdout.split()[-1]
    libraries = [one for one in zipfile.ZipFile(tmp_path / name).namelist() if one.endswith(".so")]
    assert len(libraries) == found
    assert name.endswith("-none-any.whl") != found


def proc(pid: int) -> Path:
    return Path("/proc") / str(pid)


@pytest.mark.parametrize("kind", ENGINES)
async def test_a_worker_says_which_engine_it_runs(tmp_path: Path, kind: str) -> None:
    socket = tmp_path / "media.sock"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "qanun_telemedicine.sfu.worker", "--socket", str(socket), "--engine", kind),
        *("--listen", f"0.0.0.0:{next_port()}", "--advertise", own_address()),
        stderr=asyncio.subprocess.PIPE,
    )
    client = MediaClient(socket)
    await client.start(wait=15)
    assert client.worker.engine == kind
    if kind == "c" and os.geteuid() == 0:
        # What forwards packets goes ahead of what reckons, where that is allowed.
        nice = {int(one.read_text().rpartition(")")[2].split()[16]) for one in proc(process.pid).glob("task/*/stat")}
        assert len(nice) == 2 and max(nice) == os.getpriority(os.PRIO_PROCESS, 0)
    await client.close()
    process.terminate()
    _, log = await process.communicate()
    assert f"media engine: {kind}" in log.decode()
    assert process.returncode == 0


def sanitized(tmp_path: Path, sanitizers: str) -> Path:
    compiler = native.compiler()
    assert compiler is not None
    made = tmp_path / "fuzz"
    flags = [
        "-std=c11",
        "-g",
        "-O1",
        f"-fsanitize={sanitizers}",
        "-fno-sanitize-recover=all",
        "-Wall",
        "-Wextra",
        "-Werror",
    ]
    done = subprocess.run(
        [compiler, *flags, f"-I{native.FOLDER}", "-pthread", "-o", made, HARNESS],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and ("cannot find" in done.stderr or "unsupported" in done.stderr):
        pytest.skip(f"this compiler has no {sanitizers} sanitizer")
    assert not done.returncode, done.stderr
    return made


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("the thread sanitizer does not run on this kernel")
    assert not done.returncode, done.stderr[-4000:]


@needs_compiler
@pytest.mark.parametrize("seeds", [SEEDS[:1], pytest.param(SEEDS[1:], marks=pytest.mark.long)], ids=["quick", "long"])
def test_any_packets_and_orders_stay_within_their_memory(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    harness = sanitized(tmp_path, "address,undefined")
    for seed in seeds:
        run(harness, str(seed), str(STEPS))
    run(harness, "outbox", "3000")
    run(harness, "threads", "1000")


@needs_compiler
def test_the_engines_thread_and_pythons_never_race(tmp_path: Path) -> None:
    run(sanitized(tmp_path, "thread"), "threads", "2000")


@needs_c
def test_an_engine_that_nobody_closes_ends_with_the_interpreter() -> None:
    code = (
        "import asyncio\n"
        "from qanun_telemedicine.sfu.engine_c import CEngine\n"
        "async def main():\n"
        "    global engine\n"
        "    engine = CEngine(('127.0.0.1', 0))\n"
        "    engine.start(object())\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
