"""What is worked out when a template is compiled reads exactly like what is worked out at every page."""

import pytest

from qanun.i18n import get_locale
from qanun.web.templating import _locale as locale_of_page
from qanun.web.templating import environment, stencil

TEXTS = ["{{ _('Sign in') }}", "{{ _('100%% of it') }}", "{{ pgettext('navigation', 'Main') }}", "{{ icon('check') }}"]


@pytest.mark.parametrize("code", ["en", "ar"])
@pytest.mark.parametrize("text", TEXTS)
def test_a_constant_call_gives_the_same_text_compiled_or_called(text: str, code: str) -> None:
    locale = get_locale(code)
    token = locale_of_page.set(locale)
    try:
        folded = environment(locale)
        name = "core/errors/404.html"
        by_compiling = folded.from_string(text)
        compiled = folded.compile(text, name=name)
        out = folded.template_class.from_code(folded, compiled, folded.globals).render()
        assert out == by_compiling.render()
        assert "_(" not in out and out.strip()
    finally:
        locale_of_page.reset(token)


def test_two_languages_never_share_what_was_compiled() -> None:
    texts = set()
    for code in ("en", "ar"):
        env = environment(get_locale(code))
        compiled = env.compile("{{ _('Sign in') }}", name="core/sign_in.html")
        texts.add(env.template_class.from_code(env, compiled, env.globals).render())
    assert len(texts) == 2


def test_a_call_with_a_value_of_the_page_is_not_worked_out_beforehand() -> None:
    env = environment(get_locale("en"))
    token = locale_of_page.set(get_locale("en"))
    try:
        compiled = env.compile("{{ _('Hello, %(name)s', name=name) }}", name="core/account.html")
        template = env.template_class.from_code(env, compiled, env.globals)
        assert template.render(name="<b>") == "Hello, &lt;b&gt;"
        assert template.render(name="Rim") == "Hello, Rim"
    finally:
        locale_of_page.reset(token)


def test_a_stencil_puts_in_each_pages_own_ids_escaped() -> None:
    token = locale_of_page.set(get_locale("en"))
    try:
        first = stencil("emr/parts/take_back.html", kind="allergy", entry_id="one")
        second = stencil("emr/parts/take_back.html", kind="condition", entry_id='two"><script>')
        assert "/emr/facts/allergy/one/void" in first and "/emr/facts/condition/two" in second
        assert "one" not in second and "<script>" not in second
        assert "\ue000" not in first + second
    finally:
        locale_of_page.reset(token)


@pytest.mark.parametrize("code", ["en", "ar"])
def test_what_a_page_says_of_typed_text_is_escaped_in_every_way_it_is_called(code: str) -> None:
    env = environment(get_locale(code))
    token = locale_of_page.set(get_locale(code))
    text = "{{ v(typed) }} {{ say(typed) }} {{ number(value, places=1) }} {{ relative(typed, now=typed) if 0 }}"
    try:
        compiled = env.compile(text, name="core/account.html")
        out = env.template_class.from_code(env, compiled, env.globals).render(typed="<b>&", value=36.75)
        assert "<b>" not in out and out.count("&lt;b&gt;&amp;") == 2 and "36.8" in out
    finally:
        locale_of_page.reset(token)
