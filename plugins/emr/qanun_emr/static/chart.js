// The chart's own behaviour: workspaces that open and close, panels that refresh for this patient only, both texts of a
// conflict. Pages declare: data-toggle="id" (rail), data-sheet="id" (phone), data-refresh-on="topic …" with data-patient.

const sections = () => [...document.querySelectorAll('.q-open > .q-ws')];

function rail(id, open) {
  for (const button of document.querySelectorAll(`.q-wsrail [data-toggle="${id}"]`)) button.setAttribute('aria-expanded', String(open));
}

function toggle(id, open = document.getElementById(id)?.hidden) {
  const section = document.getElementById(id);
  if (!section) return;
  section.hidden = !open;
  section.classList.toggle('q-sheet', open && matchMedia('(max-width: 760px)').matches);
  rail(id, open);
  if (open) {
    section.scrollIntoView({ block: 'nearest' });
    section.querySelector('input:not([type=hidden]), textarea, select, button[type=submit]')?.focus();
  }
}

document.addEventListener('click', (event) => {
  const button = event.target instanceof Element && event.target.closest('[data-toggle], [data-sheet]');
  if (!button) return;
  const id = button.dataset.toggle || button.dataset.sheet;
  const section = document.getElementById(id);
  if (button.dataset.sheet || (matchMedia('(max-width: 760px)').matches && section?.classList.contains('q-sheet'))) {
    for (const other of sections()) if (other.id !== id) other.classList.remove('q-sheet');
    if (section?.classList.contains('q-sheet')) { section.classList.remove('q-sheet'); return; }
    toggle(id, true);
    return;
  }
  toggle(id);
});

// ── refresh: a notice names its patient; other patients' notices are not ours ──
for (const topic of ['emr.record', 'emr.encounter', 'core.reconnected']) {
  document.body.addEventListener(`live:${topic}`, (event) => {
    for (const element of document.querySelectorAll('[data-refresh-on]')) {
      const ours = topic === 'core.reconnected' || event.detail?.patient === element.dataset.patient;
      const wanted = topic === 'core.reconnected' || element.dataset.refreshOn.split(' ').includes(topic);
      const typing = element.querySelector('.q-takeback[open]')?.contains(document.activeElement); // nothing typed is lost
      if (ours && wanted && !typing) window.htmx?.trigger(element, 'refresh');
    }
  });
}

// The page itself is told of its own changes by the answer; this makes it independent of the live line.
document.body.addEventListener('htmx:afterRequest', (event) => {
  const path = event.detail.pathInfo?.requestPath || '';
  if (event.detail.xhr?.status < 300 && /\/(vitals|facts\/\w+|void|sign|encounters)$/.test(path)) {
    const summary = document.getElementById('summary');
    if (summary) window.htmx?.trigger(summary, 'refresh');
  }
});

// ── the note ──────────────────────────────────────────────────────────────
document.body.addEventListener('htmx:configRequest', (event) => {
  const form = event.detail.elt.closest?.('form[data-autosave]');
  if (form) event.detail.parameters.version = form.dataset.version;
});

// The server refused to sign an older text: ask at once for what is stored, so that the choice between both is offered.
document.addEventListener('htmx:load', (event) => {
  for (const form of event.detail.elt.parentElement?.querySelectorAll('form[data-conflicting]') || []) {
    form.removeAttribute('data-conflicting');
    form.dispatchEvent(new Event('autosave:now'));
  }
});

document.addEventListener('autosave:conflict', (event) => {
  const form = event.target;
  const box = form.querySelector('#note-conflict');
  const { stored, by, version, signed } = event.detail;
  box.replaceChildren();
  const title = document.createElement('p');
  title.className = 'q-b';
  title.textContent = signed ? box.dataset.signed : box.dataset.title.replace('{name}', by);
  const text = document.createElement('pre');
  text.dir = 'auto';
  text.tabIndex = 0; // a long text scrolls, also by keyboard
  text.textContent = Object.values(stored).filter(Boolean).join('\n\n');
  box.append(title, text);
  if (!signed) {
    const row = document.createElement('div');
    row.className = 'q-row';
    for (const [label, take] of [[box.dataset.mine, false], [box.dataset.theirs, true]]) {
      const button = document.createElement('button');
      button.type = 'button';
      button.className = 'btn';
      button.textContent = label;
      button.addEventListener('click', () => {
        if (take) for (const [name, value] of Object.entries(stored)) form.elements[name].value = value;
        form.autosave.version = version;
        form.dataset.version = String(version);
        box.hidden = true;
        form.dispatchEvent(new Event('autosave:now'));
      });
      row.append(button);
    }
    box.append(row);
  }
  box.hidden = false;
});
