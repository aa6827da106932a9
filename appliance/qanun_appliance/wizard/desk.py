"""The folder between the pages and root: what was typed, how far the work is, which code the console shows, who is in.

Everything lies in memory (`/run`): a machine that is switched off half-way begins again with an empty sheet.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qanun.api import N_, Invalid, TooMany
from qanun_appliance.secrets import readable_key, write_private

FOLDER = Path("/run/qanun-setup")
#: Wrong codes in a row until the code is another one; and how long nobody may try then.
_TRIES, _REST_S = 5, 30.0
Answers = dict[str, dict[str, str]]


@dataclass(slots=True)
class Desk:
    """The shared folder. `read` and `write` deal with small JSON files, whole or not at all."""

    folder: Path = FOLDER

    def read(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, name: str, values: Mapping[str, Any], mode: int = 0o600) -> None:
        write_private(self.folder / f"{name}.json", json.dumps(values, ensure_ascii=False).encode(), mode)

    def answers(self) -> Answers:
        return {
            str(step): {str(name): str(value) for name, value in typed.items()}
            for step, typed in self.read("answers").items()
            if isinstance(typed, dict)
        }

    def keep(self, step: str, typed: Mapping[str, str]) -> Answers:
        """What one page typed, right or wrong, beside what the others did."""
        answers = self.answers()
        answers[step] = {**answers.get(step, {}), **typed}
        self.write("answers", answers)
        return answers

    @property
    def begun(self) -> bool:
        return (self.folder / "go").exists() or (self.folder / "progress.json").exists()

    @property
    def way(self) -> str:
        """`return` when a clinic comes back from its backup, otherwise `new`."""
        return "return" if self.read("way").get("is") == "return" else "new"

    def begin(self, way: str) -> None:
        """The last page's word to root; a path unit waits for the file. Its content is nobody's input."""
        self.write("way", {"is": way})
        (self.folder / "go").touch(mode=0o600)

    def again(self) -> None:
        """Back to the pages after a failure."""
        for name in ("go", "progress.json", "hosts.json", "failure.json", "backup.json"):
            (self.folder / name).unlink(missing_ok=True)

    def clear(self) -> None:
        """Nothing of what was typed outlives the set-up."""
        for path in self.folder.iterdir():
            path.unlink()

    def progress(self) -> dict[str, Any]:
        return self.read("progress")


@dataclass(slots=True)
class Door:
    """The one-time code. Whoever types it gets the session, and the console shows the next code: with that one the pages move
    to another browser, and the first loses them. Only a hash of the session is kept."""

    desk: Desk
    #: Monotonic time until which nobody may try.
    _rests: float = 0.0
    _wrong: int = 0
    _code: str = field(default="", repr=False)
    _session: str = field(default="", repr=False)

    def open(self) -> None:
        """Show a code. The session of a process that died goes on."""
        self._session = str(self.desk.read("session").get("hash", ""))
        self._renew()

    def enter(self, typed: str) -> str:
        """A session's token for the right code. Raises Invalid for a wrong one, TooMany after several."""
        now = time.monotonic()
        if now < self._rests:
            raise TooMany(retry_after=int(self._rests - now) + 1)
        wanted = self._code.replace("-", "")
        given = "".join(letter for letter in typed.upper() if letter.isalnum())
        if not hmac.compare_digest(given.encode(), wanted.encode()):
            self._wrong += 1
            if self._wrong >= _TRIES:
                self._wrong, self._rests = 0, now + _REST_S
                self._renew()
                raise TooMany(retry_after=int(_REST_S))
            raise Invalid({"code": N_("That is not the code on the machine’s screen.")})
        self._wrong = 0
        token = secrets.token_urlsafe(32)
        self._session = _hash(token)
        self.desk.write("session", {"hash": self._session})
        self._renew()
        return token

    def knows(self, token: str) -> bool:
        return bool(self._session) and hmac.compare_digest(_hash(token), self._session)

    @property
    def taken(self) -> bool:
        return bool(self._session)

    def _renew(self) -> None:
        self._code = readable_key(groups=2, length=4)
        write_private(self.desk.folder / "issue", issue(self._code, taken=self.taken).encode(), 0o644)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def issue(code: str, *, taken: bool) -> str:
    r"""What the console shows above its prompt. `\4` is the machine's address as agetty knows it, also after it changed."""
    state = "Set-up is open in a browser. To go on in another one:" if taken else "This machine is not set up yet."
    return (
        f"\n  Qanun\n\n  {state}\n  From a computer or phone on the same network, open\n\n"
        f"      https://\\4\n\n  and type this code:   {code}\n\n"
        "  The browser warns of an unknown certificate: that is this machine's own, go on.\n"
        "  No address above? Then no network answered yet: look at the cable.\n\n"
    )


def console(folder: Path, target: Path) -> None:
    """Root's part: the console reads the code from the pages' folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.symlink_to(folder / "issue")
