"""Every core template says everything in every language, and holds nothing inline."""

import re

import pytest

from qanun.i18n import get_locale
from qanun.registry import Failure
from qanun.testing.conformance import _INLINE, _PHYSICAL
from qanun.web.templating import environment, package_folder, render, static, static_file

CORE = package_folder("core")
VALUES = {
    "origin": "https://clinic.example",
    "tenant": None, "actor": None, "nav": [], "path": "/", "languages": (), "values": {}, "errors": {}, "fields": {},
    "reference": "7f3c", "code": "x", "status": 404, "fragment": False, "clinics": [], "current": "", "name": "A B",
    "failure": Failure("labs", "labs.panel", "timeout"),
}  # fmt: skip
PAGES = [
    "sign_in.html", "portal_start.html", "clinics.html", "parts/failed_contribution.html",
    *(f"errors/{code}.html" for code in (403, 404, 409, 422, 429, 500, 503)),
]  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("code", ["en", "ar", "en-XA", "ar-XB"])
def test_a_page_renders_in_every_language_and_the_pseudo_ones_leave_no_text_behind(page, code):
    locale = get_locale(code)
    html = render(f"core/{page}", locale, **{**VALUES, "values": {"next": "", "email": "", "login": ""}})
    if page.startswith(("errors", "sign", "portal", "clinics")):
        assert f'dir="{locale.direction}"' in html
    if code == "en-XA":
        text = re.sub(r"<[^>]*>|\s+", " ", re.sub(r"<(script|style|title)\b.*?</\1>", "", html, flags=re.DOTALL))
        bare = re.sub(r"\[[^\]]*···\]", "", text)
        words = set(re.findall(r"[A-Za-z]{3,}", bare)) - {"labs", "panel", "Ctrl", "Esc"}
        assert words == set(), f"not translatable: {words}"


@pytest.mark.parametrize("path", sorted(CORE.joinpath("templates").rglob("*.html")), ids=lambda path: path.name)
def test_a_template_parses_and_holds_no_inline_script_or_style(path):
    text = path.read_text(encoding="utf-8")
    environment().parse(text)
    assert _INLINE.findall(text) == []


@pytest.mark.parametrize("name", ["qanun.css", "product.css"])
def test_styles_know_start_and_end_but_not_left_and_right(name):
    css = re.sub(r"/\*.*?\*/", "", (CORE / "static" / name).read_text(encoding="utf-8"), flags=re.DOTALL)
    assert _PHYSICAL.findall(css) == []


def test_static_files_are_named_by_their_content_and_nothing_outside_is_served():
    slug, digest, name = static("core/qanun.css").removeprefix("/static/").split("/", 2)
    good = static_file(slug, digest, name, "gzip")
    assert good is not None and "immutable" in good.headers["cache-control"]
    assert good.headers["content-encoding"] == "gzip"
    old = static_file(slug, "0" * 12, name, "")
    assert old is not None and old.headers["cache-control"] == "no-cache"
    for wrong in ("../web/errors.py", "/etc/passwd", "absent.css", "..%2ferrors.py"):
        assert static_file(slug, digest, wrong, "") is None
    assert static_file("nobody", digest, "x.css", "") is None
    assert static_file("../core", digest, "qanun.css", "") is None


def test_what_is_typed_is_escaped_wherever_it_is_shown():
    evil = '"><script>alert(1)</script>'
    html = render("core/sign_in.html", get_locale("en"), **{**VALUES, "values": {"email": evil, "next": evil}})
    assert "<script>alert" not in html
