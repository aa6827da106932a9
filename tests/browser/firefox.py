"""Debian's headless Firefox over WebDriver BiDi, with nothing but `websockets`: no geckodriver, no selenium.

async with Firefox() as firefox:
    page = await firefox.page("http://127.0.0.1:8000/")
    await page.evaluate("document.title")
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import websockets

BINARY = "/usr/bin/firefox-esr"

_PREFERENCES: dict[str, Any] = {
    # Media without questions, from a fake microphone.
    "media.navigator.streams.fake": True,
    "media.navigator.permission.disabled": True,
    "media.autoplay.default": 0,
    "media.autoplay.blocking_policy": 0,
    "media.peerconnection.ice.loopback": True,
    "media.cubeb.backend": "null",
    # No traffic of its own, no first-run pages.
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "browser.startup.homepage": "about:blank",
    "browser.newtabpage.enabled": False,
    "browser.aboutwelcome.enabled": False,
    "browser.region.update.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.safebrowsing.downloads.enabled": False,
    "browser.search.update": False,
    "app.normandy.enabled": False,
    "app.update.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "datareporting.healthreport.uploadEnabled": False,
    "dom.push.connection.enabled": False,
    "extensions.update.enabled": False,
    "extensions.getAddons.cache.enabled": False,
    "media.gmp-manager.updateEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.dns.disablePrefetch": True,
    "network.prefetch-next": False,
    "network.http.speculative-parallel-limit": 0,
    "services.settings.server": "data:,#remote-settings-dummy/v1",
    "toolkit.telemetry.enabled": False,
    "toolkit.telemetry.unified": False,
    # A page that is not in front works on.
    "dom.min_background_timeout_value": 4,
    "dom.timeout.enable_budget_timer_throttling": False,
    "media.suspend-background-video.enabled": False,
    "dom.ipc.processPrelaunch.enabled": False,
    "toolkit.startup.max_resumed_crashes": -1,
}


class Page:
    def __init__(self, firefox: "Firefox", context: str) -> None:
        self._firefox = firefox
        self._context = context

    async def goto(self, url: str) -> None:
        await self._firefox.command("browsingContext.navigate", context=self._context, url=url, wait="complete")

    async def evaluate(self, expression: str, argument: Any = None) -> Any:
        """The value of an expression or promise; an expression that is a function gets the argument."""
        code = f"Promise.resolve({expression}).then(async (value) => typeof value === 'function' "
        code += f"? value({json.dumps(argument)}) : value).then((x) => JSON.stringify(x === undefined ? null : x))"
        result = await self._firefox.command(
            "script.evaluate",
            expression=code,
            target={"context": self._context},
            awaitPromise=True,
            userActivation=True,
        )
        if result["type"] == "exception":
            raise RuntimeError(result["exceptionDetails"]["text"])
        return json.loads(result["result"]["value"])

    async def wait_for_function(self, expression: str) -> None:
        async with asyncio.timeout(30):
            while not await self.evaluate(f"!!({expression})"):
                await asyncio.sleep(0.1)

    async def reload(self) -> None:
        await self._firefox.command("browsingContext.reload", context=self._context, wait="complete")

    def on(self, name: str, handler: Any) -> None:
        """Page errors are not listened to here; the page's own log has to do."""


class Firefox:
    """A browser with a fresh profile; leaving the block ends it and removes everything.

    `program` starts it where it shall be, and `reach` connects to a port of the loopback there.
    """

    def __init__(
        self,
        preferences: dict[str, Any] | None = None,
        *,
        program: str | Path = BINARY,
        reach: Callable[[int], socket.socket] | None = None,
    ) -> None:
        self._program = str(program)
        self._reach = reach
        self._preferences = {**_PREFERENCES, **(preferences or {})}
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._profile = Path(tempfile.mkdtemp(prefix="qanun-firefox-"))
        lines = [f"user_pref({json.dumps(k)}, {json.dumps(v)});\n" for k, v in self._preferences.items()]
        (self._profile / "user.js").write_text("".join(lines))
        environment = {
            **os.environ,
            "HOME": str(self._profile),
            "MOZ_HEADLESS": "1",
            "MOZ_CRASHREPORTER_DISABLE": "1",
            "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent",
        }
        command = [self._program, "--headless", "--no-remote", "--new-instance", "--profile", str(self._profile)]
        self._process = await asyncio.create_subprocess_exec(
            *command,
            *("--remote-debugging-port", "0", "about:blank"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        try:
            url = await asyncio.wait_for(self._address(), 60)
            there = {"sock": self._reach(urlsplit(url).port or 0)} if self._reach is not None else {}
            self._socket = await websockets.connect(f"{url}/session", max_size=None, **there)
            self._tasks.append(asyncio.create_task(self._read()))
            await self.command("session.new", capabilities={"alwaysMatch": {"acceptInsecureCerts": True}})
        except BaseException:
            await self._end()
            raise
        return self

    async def _address(self) -> str:
        found: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def pump() -> None:
            assert self._process.stderr is not None
            async for line in self._process.stderr:
                match = re.search(rb"WebDriver BiDi listening on (ws://\S+)", line)
                if match and not found.done():
                    found.set_result(match[1].decode())
            if not found.done():
                found.set_exception(RuntimeError("Firefox ended before it listened"))

        self._tasks.append(asyncio.create_task(pump()))
        return await found

    async def _read(self) -> None:
        async for text in self._socket:
            message = json.loads(text)
            waiting = self._answers.pop(message.get("id", -1), None)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)

    async def command(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        waiting = self._answers[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        message = await asyncio.wait_for(waiting, 90)
        if message["type"] == "error":
            raise RuntimeError(f"{method}: {message['error']}: {message['message']}")
        return dict(message["result"])

    async def page(self, url: str | None = None) -> Page:
        context = (await self.command("browsingContext.create", type="tab"))["context"]
        page = Page(self, context)
        if url is not None:
            await page.goto(url)
        return page

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.command("browser.close"), 5)
        await self._end()

    async def _end(self) -> None:
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        shutil.rmtree(self._profile, ignore_errors=True)
