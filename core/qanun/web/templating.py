"""Templates and static files: where they are found, what they can call, and in whose language they speak.

`emr/chart.html` is looked for in the package of the plugin `emr`, `core/…` here; a template's own distribution is its
gettext domain. Templates get values and never run queries.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import mimetypes
import os
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import jinja2
from jinja2.runtime import Context as JinjaContext
from markupsafe import Markup, escape

import qanun
from qanun.i18n import Locale, dates, format_number, get_locale, isolate, resolve, v
from qanun.identity.specialties import specialty_name
from qanun.web.folding import Constants, FoldingEnvironment, as_written

_locale: ContextVar[Locale] = ContextVar("qanun_template_locale")
_zone: ContextVar[ZoneInfo] = ContextVar("qanun_template_zone")
_UTC = ZoneInfo("UTC")


@cache
def package_folder(slug: str) -> Path | None:
    """The folder of a distribution's package by the first part of a template's or file's name."""
    if slug == "core":
        return Path(qanun.__file__).parent / "web"
    spec = importlib.util.find_spec(f"qanun_{slug}") if slug.isidentifier() else None
    return Path(spec.origin).parent if spec and spec.origin else None


class _Loader(jinja2.BaseLoader):
    """`<slug>/<path>` → `<package>/templates/<slug>/<path>`."""

    def get_source(
        self, environment: jinja2.Environment, template: str
    ) -> tuple[str, str | None, Callable[[], bool] | None]:
        slug = template.split("/", 1)[0]
        folder = package_folder(slug)
        path = folder / "templates" / template if folder else None
        if path is None or ".." in template or not path.is_file():
            raise jinja2.TemplateNotFound(template)
        stamp = path.stat().st_mtime
        return path.read_text(encoding="utf-8"), str(path), lambda: path.exists() and path.stat().st_mtime == stamp


def _domain(context: JinjaContext) -> str:
    slug = (context.name or "core").split("/", 1)[0]
    return "qanun" if slug == "core" else f"qanun_{slug}"


@jinja2.pass_context
def _gettext(context: JinjaContext, text: str) -> str:
    return _locale.get().gettext(text, domain=_domain(context))


@jinja2.pass_context
def _ngettext(context: JinjaContext, one: str, many: str, number: int) -> str:
    return _locale.get().ngettext(one, many, number, domain=_domain(context))


@jinja2.pass_context
def _pgettext(context: JinjaContext, hint: str, text: str) -> str:
    return _locale.get().pgettext(hint, text, domain=_domain(context))


@jinja2.pass_context
def _npgettext(context: JinjaContext, hint: str, one: str, many: str, number: int) -> str:
    return _locale.get().npgettext(hint, one, many, number, domain=_domain(context))


# --- what templates can call --------------------------------------------------------------------------------------------


@lru_cache(maxsize=512)
def icon(name: str, extra: str = "") -> Markup:
    """An icon of the sprite, for the eye only: the words beside it are what is read aloud."""
    return Markup('<svg class="q-i{}" aria-hidden="true"><use href="{}#{}"/></svg>').format(
        f" {extra}" if extra else "", static("core/vendor/icons.svg"), name
    )


def initials(name: str) -> str:
    """One or two letters for an avatar: `LH`, in Arabic one letter (joined initials are not read)."""
    words = [word for word in name.replace("د.", "").replace("Dr ", "").split() if word]
    if not words:
        return "·"
    if "\u0600" <= words[0][0] <= "\u06ff":
        return words[0].removeprefix("ال")[:1]
    return "".join(word[0] for word in (words[0], words[-1])[: len(words)]).upper()


@lru_cache(maxsize=1024)
def avatar(name: str, extra: str = "") -> Markup:
    """A coloured square or circle with initials; the colour follows from the name and means nothing."""
    colour = hashlib.blake2s(name.encode(), digest_size=1).digest()[0] % 6 + 1
    return Markup('<span class="q-av q-av-{}{}" aria-hidden="true">{}</span>').format(
        colour, f" {extra}" if extra else "", initials(name)
    )


def _moment(function: Callable[..., str]) -> Callable[[date | datetime | None], Markup]:
    def call(moment: date | datetime | None) -> Markup:
        return Markup("") if moment is None else escape(function(_locale.get(), moment, _zone.get(_UTC)))

    return call


def clock(moment: datetime | None) -> Markup:
    """`14:05` in the clinic's zone, isolated."""
    return Markup("") if moment is None else v(dates.clock(moment, _zone.get(_UTC)))


def clocks(start: datetime, end: datetime | None) -> Markup:
    """`14:05–14:25` as one isolated value: two of them beside a dash would stand the other way round in Arabic."""
    zone = _zone.get(_UTC)
    last = f"–{dates.clock(end, zone)}" if end is not None else ""
    return v(f"{dates.clock(start, zone)}{last}")


def iso_date(value: date | datetime | None) -> Markup:
    """`1991-08-19`: for birth dates and everything that is compared letter by letter."""
    if isinstance(value, datetime):
        value = value.astimezone(_zone.get(_UTC)).date()
    return Markup("") if value is None else v(value.isoformat())


def age(born: date) -> Markup:
    return escape(dates.age_text(_locale.get(), born, datetime.now(_zone.get(_UTC)).date()))


def relative(moment: datetime, now: datetime) -> str:
    return dates.relative(_locale.get(), moment, now)


def say(value: Any) -> str:
    """A marked message (`N_`) in the reader's language."""
    return resolve(value, _locale.get())


def specialty(text: str) -> str:
    """What a clinician is specialised in, in the reader's language."""
    return specialty_name(text, _locale.get())


def _constants(locale: Locale) -> Constants:
    def of(template: str) -> dict[str, Callable[..., Any]]:
        slug = template.split("/", 1)[0]
        domain = "qanun" if slug == "core" else f"qanun_{slug}"

        def translated(text: str) -> Markup:
            return as_written(locale.gettext(text, domain=domain))

        def in_context(hint: str, text: str) -> Markup:
            return as_written(locale.pgettext(hint, text, domain=domain))

        def sentence(text: str) -> Markup:
            return Markup(locale.gettext(text, domain=domain))  # noqa: S704 - as above, before its values are put in

        return {
            "sentence": sentence,
            "_": translated,
            "gettext": translated,
            "pgettext": in_context,
            "icon": icon,
            "static": static,
        }

    return of


_HOLE = "\ue000{}\ue001"  # private-use letters: they occur in no text and need no escaping


_stencils: dict[tuple[Locale, str], dict[tuple[str, ...], str]] = {}


def stencil(template: str, constants: Mapping[str, Any] | None = None, **holes: object) -> Markup:
    """A part that differs between pages only in a few ids: rendered once a language, then the ids are put in.

    The template may write a hole and join it to other text, not decide by it; it sees nothing of the page around it, only
    its holes and `constants`, which must be the same at every call. For forms that stand on every chart, closed.
    """
    locale = _locale.get()
    known = _stencils.setdefault((locale, template), {})
    names = tuple(sorted(holes))
    if names not in known:
        marks = {name: _HOLE.format(name) for name in names}
        found = environment(locale).get_template(template)
        known[names] = found.render(locale=locale, values={}, errors={}, **marks, **(constants or {}))
    html = known[names]
    for name, value in holes.items():
        html = html.replace(_HOLE.format(name), str(escape(value)))
    return Markup(html)  # noqa: S704 - the template escaped its own, the holes are escaped here


#: Functions a template calls as they are.
_PLAIN = frozenset(
    {
        "v", "isolate", "icon", "avatar", "initials", "specialty", "static", "say", "clock", "clocks", "iso_date", "long_date",
        "medium_date", "short_date", "age", "relative", "number", "stencil",
    }
)  # fmt: skip


@cache
def environment(locale: Locale | None = None) -> jinja2.Environment:
    """The templates, compiled for one language (None: for no language in particular, as checks of their text want)."""
    env = FoldingEnvironment(
        loader=_Loader(), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        extensions=["jinja2.ext.i18n", "jinja2.ext.do"], auto_reload=os.environ.get("QANUN_DEVELOPMENT") == "1", cache_size=600,
    )  # fmt: skip
    env.constants = _constants(locale) if locale is not None else None
    env.policies["ext.i18n.trimmed"] = True
    env.install_gettext_callables(  # type: ignore[attr-defined]
        _gettext, _ngettext, newstyle=True, pgettext=_pgettext, npgettext=_npgettext
    )
    env.globals.update(
        v=v, isolate=isolate, icon=icon, avatar=avatar, initials=initials, specialty=specialty, static=static, say=say, clock=clock, clocks=clocks,
        iso_date=iso_date, long_date=_moment(dates.long_date), medium_date=_moment(dates.medium_date),
        short_date=_moment(dates.short_date), age=age, relative=relative, number=format_number,
        stencil=stencil,
    )  # fmt: skip
    env.plain = _PLAIN
    return env


def render(template: str, locale: Locale | None, /, **values: Any) -> str:
    """The template in `locale`. A `tenant` among the values sets the time zone of clocks and dates."""
    chosen = locale or get_locale("en")
    tenant = values.get("tenant")
    tokens = _locale.set(chosen), _zone.set(tenant.zone if tenant else _UTC)
    try:
        return environment(chosen).get_template(template).render(locale=chosen, **values)
    finally:
        _locale.reset(tokens[0])
        _zone.reset(tokens[1])


# --- static files ---------------------------------------------------------------------------------------------------------

_TEXT = {".css", ".js", ".svg", ".json", ".webmanifest", ".mjs"}
mimetypes.add_type("text/javascript", ".js")
mimetypes.add_type("font/woff2", ".woff2")
mimetypes.add_type("image/svg+xml", ".svg")


@dataclass(frozen=True, slots=True)
class StaticFile:
    content: bytes
    content_type: str
    headers: Mapping[str, str]


@cache
def bundle_digest(slug: str) -> str:
    """One short hash over all of a distribution's static files, so that files that import one another agree."""
    folder = package_folder(slug)
    digest = hashlib.sha256()
    if folder is not None:
        for path in sorted((folder / "static").rglob("*")):
            if path.is_file():
                digest.update(str(path.relative_to(folder)).encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


@lru_cache(maxsize=1024)
def static(name: str) -> str:
    """`static("emr/chart.js")` → `/static/emr/<digest>/chart.js`."""
    slug, _, path = name.partition("/")
    return f"/static/{slug}/{bundle_digest(slug)}/{path}"


@cache
def _read(path: Path, stamp: float, packed: bool) -> bytes:
    content = path.read_bytes()
    return gzip.compress(content, 9, mtime=0) if packed else content


def static_file(slug: str, digest: str, name: str, accept_encoding: str) -> StaticFile | None:
    """The file, or None. An old digest still gets today's file, but is not to be kept."""
    folder = package_folder(slug)
    if folder is None:
        return None
    base = (folder / "static").resolve()
    path = (base / name).resolve()
    if not path.is_relative_to(base) or not path.is_file():
        return None
    packed = path.suffix in _TEXT and "gzip" in accept_encoding
    headers = {
        "cache-control": "public, max-age=31536000, immutable" if digest == bundle_digest(slug) else "no-cache",
        "vary": "accept-encoding",
    }
    if packed:
        headers["content-encoding"] = "gzip"
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if path.suffix in _TEXT:
        kind += "; charset=utf-8"
    return StaticFile(_read(path, path.stat().st_mtime, packed), kind, headers)
