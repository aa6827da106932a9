// The frame of every page: shortcuts, palette, live notices, and what to say when the connection or the records are gone.
// No framework, nothing inline. Pages declare with attributes:
//   data-go="d"          `g d` follows this link          data-key="n" data-key-label="…"   `n` presses this element
//   data-open="palette"  opens the dialog with that id    data-close                         closes the dialog around it
//   data-live="/live"    on <body>: the stream of notices; each becomes an event `live:<topic>` on <body> (for htmx too)

const typing = (target) => target instanceof HTMLElement && (target.isContentEditable
  || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
const visible = (element) => element.offsetParent !== null && !element.closest('[inert]') && !element.disabled;
const dialog = (id) => document.getElementById(id);

// ── shortcuts ─────────────────────────────────────────────────────────────
let leader = 0;

function press(key) {
  const target = [...document.querySelectorAll('[data-key]')].find((e) => e.dataset.key === key && visible(e));
  if (!target) return false;
  if (/^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)) target.focus(); else target.click();
  return true;
}

function go(key) {
  const target = [...document.querySelectorAll('[data-go]')].find((e) => e.dataset.go === key);
  if (target) target.click();
  return Boolean(target);
}

function nextPanel(backwards) {
  const panels = [...document.querySelectorAll('.q-panel, .q-ws, .q-call, .q-dock section')].filter(visible);
  if (!panels.length) return;
  const at = panels.findIndex((p) => p.contains(document.activeElement));
  const panel = panels[(at + (backwards ? panels.length - 1 : 1)) % panels.length];
  const first = panel.querySelector('a[href], button, input, select, textarea, [tabindex]');
  if (first) first.focus();
}

document.addEventListener('keydown', (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === 'k' && dialog('palette')) {
    event.preventDefault();
    openDialog('palette');
    return;
  }
  if (event.key === 'F6') { event.preventDefault(); nextPanel(event.shiftKey); return; }
  if (event.key === 'Enter' && event.shiftKey) {
    const submit = event.target instanceof Element && event.target.closest('form')?.querySelector('[data-submit], [type=submit]');
    const fallback = document.querySelector('[data-key="Shift+Enter"]');
    const target = submit || (fallback && visible(fallback) ? fallback : null);
    if (target) { event.preventDefault(); target.click(); }
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || document.querySelector('dialog[open]')) return;
  if (event.key === '?') { openDialog('shortcuts'); return; }
  if (Date.now() - leader < 1200 && go(event.key.toLowerCase())) { leader = 0; event.preventDefault(); return; }
  if (event.key === 'g') { leader = Date.now(); return; }
  if (event.key.length === 1 && press(event.key)) event.preventDefault();
});

// ── dialogs ───────────────────────────────────────────────────────────────
function openDialog(id) {
  const target = dialog(id);
  if (!target || target.open) return;
  if (id === 'shortcuts') listShortcuts(target);
  target.showModal();
  if (id === 'palette') { const input = target.querySelector('input'); input.value = ''; input.focus(); search(''); }
}

document.addEventListener('click', (event) => {
  const opener = event.target instanceof Element && event.target.closest('[data-open]');
  if (opener) { openDialog(opener.dataset.open); return; }
  const closer = event.target instanceof Element && event.target.closest('[data-close]');
  if (closer) closer.closest('dialog')?.close();
  if (event.target instanceof HTMLDialogElement && event.target.matches('.q-dialog') && !event.target.matches('[role=alertdialog]')) {
    event.target.close();
  }
});

function keyRow(label, keys) {
  const row = document.createElement('li');
  const name = document.createElement('span');
  name.textContent = label;
  const marks = document.createElement('span');
  marks.className = 'q-keys';
  marks.dir = 'ltr';
  for (const key of keys) { const cap = document.createElement('kbd'); cap.textContent = key; marks.append(cap); }
  row.append(name, marks);
  return row;
}

function listShortcuts(target) {
  const page = target.querySelector('[data-shortcuts=page]');
  const rows = [...document.querySelectorAll('[data-key]')].filter(visible)
    .map((e) => keyRow(e.dataset.keyLabel || e.getAttribute('aria-label') || e.textContent.trim(), e.dataset.key.split('+')));
  page.replaceChildren(...rows);
  page.closest('section').hidden = !rows.length;
  target.querySelector('[data-shortcuts=go]').replaceChildren(
    ...[...document.querySelectorAll('[data-go]')].map((e) => keyRow(e.textContent.trim(), ['g', e.dataset.go])));
}

// ── palette ───────────────────────────────────────────────────────────────
let asked = 0;
let timer = 0;

async function search(text) {
  const box = dialog('palette');
  const list = box.querySelector('.q-palr');
  const turn = ++asked;
  let groups = [];
  try {
    const answer = await fetch(`${box.dataset.search}?q=${encodeURIComponent(text)}`, { headers: { accept: 'application/json' } });
    if (answer.ok) groups = (await answer.json()).groups;
  } catch { /* the connection's own mark says so */ }
  if (turn !== asked) return;
  list.replaceChildren();
  for (const group of groups) {
    const title = document.createElement('h3');
    title.textContent = group.label;
    list.append(title);
    for (const hit of group.hits) {
      const line = document.createElement('a');
      line.href = hit.href;
      line.setAttribute('role', 'option');
      const words = document.createElement('span');
      const first = Object.assign(document.createElement('span'), { className: 't', textContent: hit.title });
      first.dir = 'auto';
      const second = Object.assign(document.createElement('span'), { className: 's', textContent: hit.text ? ` ${hit.text}` : '' });
      words.append(first, second);
      line.append(words);
      list.append(line);
    }
  }
  if (!groups.length) {
    const hint = document.createElement('p');
    hint.textContent = text.length < 2 ? list.dataset.hint : list.dataset.empty;
    list.append(hint);
  }
  select(list, 0);
}

function select(list, index) {
  const lines = [...list.querySelectorAll('a')];
  if (!lines.length) return;
  const at = (index + lines.length) % lines.length;
  lines.forEach((line, i) => line.setAttribute('aria-selected', String(i === at)));
  lines[at].scrollIntoView({ block: 'nearest' });
}

const palette = dialog('palette');
if (palette) {
  const input = palette.querySelector('input');
  const list = palette.querySelector('.q-palr');
  input.addEventListener('input', () => { clearTimeout(timer); timer = setTimeout(() => search(input.value.trim()), 120); });
  input.addEventListener('keydown', (event) => {
    const lines = [...list.querySelectorAll('a')];
    const at = lines.findIndex((l) => l.getAttribute('aria-selected') === 'true');
    if (event.key === 'ArrowDown') { event.preventDefault(); select(list, at + 1); }
    if (event.key === 'ArrowUp') { event.preventDefault(); select(list, at - 1); }
    if (event.key === 'Enter' && at >= 0) { event.preventDefault(); lines[at].click(); }
    // A search field would first empty itself; one press closes.
    if (event.key === 'Escape') { event.preventDefault(); palette.close(); }
  });
}

// ── panels that ask for themselves anew ───────────────────────────────────
// The answer takes the panel's place, and what the panel was told while that answer was on its way is gone with it: an allergy
// recorded in that moment would not be shown. So it is kept here, and the panel that took the place asks once more; it does so
// too when a second answer, to a form in it, finds its place taken.
const PANEL = '[id][hx-get][hx-trigger]';
const awaited = new Map(); // a panel that an answer will replace → what it was told since the answer was asked for

document.addEventListener('refresh', (event) => awaited.get(event.target)?.add('refresh'), true); // before the panel hears it
document.addEventListener('htmx:beforeRequest', ({ detail: { target } }) => {
  if (target.matches(PANEL) && !awaited.has(target)) awaited.set(target, new Set());
});
document.addEventListener('htmx:afterRequest', ({ detail: { target } }) => {
  const told = awaited.get(target);
  awaited.delete(target);
  if (target.isConnected || !target.matches(PANEL) || told?.size === 0) return;
  const present = document.getElementById(target.id);
  if (!present?.matches('[hx-get]')) return;
  if (present.contains(document.activeElement) && typing(document.activeElement)) return; // nothing typed is lost
  globalThis.htmx.ajax('GET', present.getAttribute('hx-get'), { source: present, target: present, swap: 'outerHTML' });
});

// ── live notices ──────────────────────────────────────────────────────────
const mark = document.querySelector('[data-connection]');

function connected(yes) {
  if (!mark) return;
  const words = mark.querySelector('[data-connection-text]');
  mark.querySelector('.q-dot').className = `q-dot ${yes ? 'ok' : 'crit'}`;
  words.textContent = yes ? words.dataset.on : words.dataset.off;
}

function announce(topic, ids) {
  for (const [panel, told] of awaited) if (panel.getAttribute('hx-trigger').includes(`live:${topic}`)) told.add(topic);
  document.body.dispatchEvent(new CustomEvent(`live:${topic}`, { detail: ids }));
}

if (document.body.dataset.live && 'EventSource' in window) {
  const known = new Set();
  const source = new EventSource(document.body.dataset.live);
  let lost = false;
  source.addEventListener('ready', () => { connected(true); if (lost) announce('core.reconnected', {}); lost = false; });
  source.addEventListener('error', () => { lost = true; connected(false); });
  source.addEventListener('signed-out', () => { source.close(); location.assign(document.body.dataset.signin); });
  const listen = (topic) => {
    if (known.has(topic)) return;
    known.add(topic);
    source.addEventListener(topic, (event) => announce(topic, JSON.parse(event.data || '{}')));
  };
  listen('core.reconnected');
  // A page says what it cares about: data-topics="scheduling.appointment telemedicine.consultation".
  for (const element of document.querySelectorAll('[data-topics]')) element.dataset.topics.split(/\s+/).forEach(listen);
  document.addEventListener('qanun:listen', (event) => listen(event.detail));
  addEventListener('pagehide', () => source.close());
}

// ── htmx: what happens when an answer is not a page ───────────────────────
document.addEventListener('htmx:responseError', (event) => {
  const way = event.detail.xhr.getResponseHeader('X-Qanun-Sign-In');
  if (way) { location.assign(way); return; }
  if (event.detail.xhr.status === 503) connected(false);
});
document.addEventListener('htmx:sendError', () => connected(false));
document.addEventListener('htmx:afterRequest', (event) => { if (event.detail.successful) connected(true); });

// ── “Confirm it is you” (confirm.js is loaded when it is needed) ──────────
const confirming = () => import('./confirm.js').then(({ confirmed }) => confirmed()).catch(() => true);

document.addEventListener('submit', async (event) => {
  const form = event.target;
  if (!form.matches('form[data-fresh]') || form.dataset.fresh === 'confirmed' || !document.body.dataset.confirm) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  const button = event.submitter;
  if (!await confirming()) return;
  form.dataset.fresh = 'confirmed';
  form.requestSubmit(button);
  form.dataset.fresh = '';
}, true);

// For modules: document.dispatchEvent(new CustomEvent('qanun:confirm', { detail: (yes) => { if (yes) sendAgain(); } }))
document.addEventListener('qanun:confirm', async (event) => event.detail(await confirming()));

document.addEventListener('htmx:responseError', async (event) => {
  if (!event.detail.xhr.getResponseHeader('X-Qanun-Confirm')) return;
  const { elt, requestConfig } = event.detail;
  if (await confirming()) globalThis.htmx.trigger(elt, requestConfig.triggeringEvent?.type || 'click');
});
