"""What a test reads of a rendered page: what axe finds, what is cut off, in which order digits stand, which words are there.

Everything here looks at the page as it is displayed and changes nothing in it, except `focus_walk`, which presses Tab.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from babel.messages.pofile import read_po
from playwright.async_api import Page

ROOT = Path(__file__).resolve().parents[2]
AXE = ROOT / "core" / "assets" / "node_modules" / "axe-core" / "axe.min.js"
FIRST_LOAD_LIMIT = 150_000
#: The rules of axe whose verdict depends on colours.
COLOURS = ("color-contrast", "link-in-text-block")

_FINDINGS = """async (only) => {
  const options = { resultTypes: ['violations'], preload: false };
  if (only.length) options.runOnly = only;
  const found = await axe.run(document, options);
  return found.violations.flatMap((one) => one.nodes.slice(0, 3).map((node) => `${one.id}: ${node.target.join(' ')}: ${node.html.slice(0, 160)}`));
}"""

#: Parts that stick out to the side, except what scrolls within its own box.
_TOO_WIDE = """() => {
  const limit = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= limit) return [];
  const out = [];
  for (const one of document.querySelectorAll('body *')) {
    const box = one.getBoundingClientRect();
    if (box.width && (box.right > limit + 1 || box.left < -1) && out.length < 5) out.push(`${one.outerHTML.slice(0, 120)} ${Math.round(box.left)}..${Math.round(box.right)}`);
  }
  return [`${document.documentElement.scrollWidth} px wide`, ...out];
}"""

# A value, as a person reads it: identifiers, signed numbers, ranges, times, dates, phone numbers, numbers with a unit.
_ORDER = r"""() => {
  const value = /(?:[A-Za-z]+-)?[+\-−]?\d+(?:[ .,:\/–\-−×]\d+)*(?:\s?[%°µA-Za-z\/²]+)?/g;
  const bare = /\d\s?[-–\/−]\s?\d|(?:^|[\s(])[-+−]\d/;
  const isolated = /[\u2066-\u2068][^\u2069]*\u2069/g;
  const faults = [];
  const say = (what, text) => faults.push(`${what}: ${text.trim().slice(0, 80)}`);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const text = node.data;
    const parent = node.parentElement;
    if (!/\d/.test(text) || !parent.checkVisibility() || parent.closest('script, style, .q-sr, option')) continue;
    const direction = getComputedStyle(parent).direction;
    if (direction === 'rtl' && !parent.closest('bdi, [dir=ltr]') && bare.test(text.replace(isolated, ''))) say('bare', text);
    for (const match of text.matchAll(value)) {
      const marks = [];
      for (let at = match.index; at < match.index + match[0].length; at += 1) {
        if (/\s/.test(text[at])) continue;
        const range = document.createRange();
        range.setStart(node, at);
        range.setEnd(node, at + 1);
        const [box] = range.getClientRects();
        if (box && box.width) marks.push(box);
      }
      for (let at = 1; at < marks.length; at += 1) {
        const sameLine = Math.abs(marks[at].top - marks[at - 1].top) < marks[at].height / 2;
        if (sameLine && marks[at].left < marks[at - 1].left - 0.5) { say('displayed in another order', match[0] + ' in ' + text); break; }
      }
    }
  }
  for (const value of document.querySelectorAll('bdi')) {
    const [dash, next] = [value.nextSibling, value.nextSibling?.nextSibling];
    if (dash?.nodeType === 3 && /^\s*[-–−/]\s*$/.test(dash.data) && next?.localName === 'bdi' && getComputedStyle(value.parentElement).direction === 'rtl') say('two values beside a dash', value.textContent + dash.data + next.textContent);
  }
  for (const input of document.querySelectorAll('input:not([type=hidden]), textarea')) {
    if (input.checkVisibility() && /^[+\-−]?\d/.test(input.value || input.placeholder) && /[-+–\/: ]/.test(input.value || input.placeholder)
      && getComputedStyle(input).direction === 'rtl' && input.type !== 'radio' && input.type !== 'checkbox') say('field', input.name + '=' + (input.value || input.placeholder));
  }
  return [...new Set(faults)];
}"""

#: [text, whether it is marked as somebody's own words or a value]. What a screen reader says counts as well.
_WORDS = """() => {
  const out = [];
  const own = (element) => Boolean(element.closest('[dir=auto], bdi, [dir=ltr], [lang]:not(html), kbd, code'));
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const text = node.data.replace(/\\s+/g, ' ').trim();
    if (text && node.parentElement.checkVisibility() && !node.parentElement.closest('script, style')) out.push([text, own(node.parentElement)]);
  }
  for (const element of document.querySelectorAll('[aria-label], [placeholder], [title], [alt]')) {
    if (!element.checkVisibility()) continue;
    for (const name of ['aria-label', 'placeholder', 'title', 'alt']) {
      const text = (element.getAttribute(name) || '').replace(/\\s+/g, ' ').trim();
      if (text) out.push([text, false]);
    }
  }
  out.push([document.title, false]);
  return out;
}"""

_SCRIPTS = """() => performance.getEntriesByType('resource').filter((one) => /\\.m?js$/.test(new URL(one.name).pathname))
  .map((one) => [new URL(one.name).pathname, one.encodedBodySize])"""

_PREPARE_WALK = """() => {
  const able = 'a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex]:not([tabindex="-1"])';
  const seen = (one) => one.checkVisibility({ checkVisibilityCSS: true }) && !one.disabled && !one.closest('[inert], dialog:not([open])') && one.getClientRects().length;
  const groups = new Set();
  const look = (one) => { const s = getComputedStyle(one); return [s.outlineStyle === 'none' ? '' : s.outlineWidth + s.outlineColor, s.boxShadow, s.backgroundColor, s.borderColor].join('|'); };
  const want = [...document.querySelectorAll(able)].filter((one) => {
    if (!seen(one) || one.tabIndex < 0) return false;
    if (one.type !== 'radio') return true;
    const group = `${one.form?.id}/${one.name}`;
    if (groups.has(group)) return false;
    groups.add(group);
    return true;
  });
  document.activeElement?.blur?.();
  globalThis.walk = { want: new Set(want), plain: new Map(), reached: new Set(), dull: [], groups: new Set(), look };
  for (const one of document.querySelectorAll('*')) walk.plain.set(one, look(one));
  return want.length;
}"""

_STEP = """() => {
  const one = document.activeElement;
  if (!one || one === document.body) return false;
  if (walk.reached.has(one)) return 'round';
  walk.reached.add(one);
  if (one.type === 'radio') walk.groups.add(`${one.form?.id}/${one.name}`);
  // A field hidden behind its label shows the focus on what stands for it.
  const shown = [one, one.parentElement, one.closest('label'), one.nextElementSibling].filter(Boolean);
  if (!shown.some((part) => walk.look(part) !== walk.plain.get(part))) walk.dull.push(one.outerHTML.slice(0, 140));
  return true;
}"""

_REACHED = """() => ({
  dull: walk.dull,
  missed: [...walk.want].filter((one) => one.isConnected && !walk.reached.has(one) && !(one.type === 'radio' && walk.groups.has(`${one.form?.id}/${one.name}`))).map((one) => one.outerHTML.slice(0, 140)),
})"""


async def axe(page: Page, *, only: tuple[str, ...] = ()) -> list[str]:
    """What axe finds; with `only`, by those rules alone."""
    if not await page.evaluate("typeof axe === 'object'"):
        await page.evaluate(AXE.read_text(encoding="utf-8"))
    return list(await page.evaluate(_FINDINGS, list(only)))


async def too_wide(page: Page) -> list[str]:
    return list(await page.evaluate(_TOO_WIDE))


async def out_of_order(page: Page) -> list[str]:
    """Values that an Arabic reader would see in another order than they are meant, or only by luck in the right one."""
    return list(await page.evaluate(_ORDER))


async def words(page: Page) -> list[tuple[str, bool]]:
    return [(text, own) for text, own in await page.evaluate(_WORDS)]


async def script_bytes(page: Page) -> dict[str, int]:
    """What the page loaded of scripts, as it came over the wire."""
    return dict(await page.evaluate(_SCRIPTS))


def catalogue() -> set[str]:
    """Every English sentence that has a translation."""
    found: set[str] = set()
    for path in (ROOT / "locale" / "ar" / "LC_MESSAGES").glob("*.po"):
        with path.open("rb") as file:
            for message in read_po(file):
                ids = message.id if isinstance(message.id, tuple) else (message.id,)
                found.update(one for one in ids if one)
    return found


def untranslated(arabic: list[tuple[str, bool]], english: list[tuple[str, bool]], known: set[str]) -> list[str]:
    """Longer English texts on an Arabic page: the same as on the English one, and not marked as somebody's own words."""
    theirs = {text for text, _ in english} - {text for text, own in arabic if own}  # a name that is read aloud as well

    def is_english(text: str) -> bool:
        return len(text) > 12 and sum(c.isascii() and c.isalpha() for c in text) > 6 and "@" not in text

    return sorted(
        {text for text, own in arabic if is_english(text) and (text in known or (not own and text in theirs))}
    )


async def focus_walk(page: Page) -> dict[str, list[str]]:
    """Tab through the whole page: what is never reached, and what shows no focus."""
    count = await page.evaluate(_PREPARE_WALK)
    for _ in range(count + 30):
        await page.keyboard.press("Tab")
        if await page.evaluate(_STEP) in (False, "round"):
            break
    return dict(await page.evaluate(_REACHED))


async def faults_of(page: Any) -> list[str]:
    """What went wrong since the last time this was asked."""
    found, page.faults = page.faults, []
    return list(found)
