// Drafts that are never lost: a form with data-autosave="/url" is PUT there a moment after each change.
//   data-version      the version this text grew from; the answer brings the next one
//   [data-save-text]  inside the form (or named by data-save-status="id") shows the state, with its words in data-words JSON
// States: saving, saved, waiting (no connection or no records: kept here, tried again), conflict (both texts are shown by
// the server's answer in [data-save-conflict]), failed. Nothing is written to local storage: it would be personal data.

const PAUSE = 700;
const RETRY = [1000, 2000, 4000, 8000, 15000];

class Autosave {
  constructor(form) {
    this.form = form;
    this.url = form.dataset.autosave;
    this.version = Number(form.dataset.version || 0);
    const status = form.dataset.saveStatus ? document.getElementById(form.dataset.saveStatus) : form;
    this.line = status?.querySelector('[data-save-text]') || status?.closest('[data-save-text]') || null;
    this.words = JSON.parse(form.dataset.words || '{}');
    this.timer = 0;
    this.tries = 0;
    this.changed = false;
    this.busy = null;
    form.addEventListener('input', () => this.touch());
    form.addEventListener('autosave:now', () => this.save());
    addEventListener('online', () => { if (this.changed) this.save(); });
    addEventListener('beforeunload', (event) => { if (this.changed) event.preventDefault(); });
    document.addEventListener('visibilitychange', () => { if (document.hidden && this.changed) this.save(); });
  }

  touch() {
    this.changed = true;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.save(), PAUSE);
    this.state('saving');
  }

  state(name, time) {
    this.form.dataset.saveState = name;
    if (!this.line) return;
    this.line.dataset.saveState = name;
    this.line.textContent = (this.words[name] || '').replace('{time}', time || '');
    this.form.dispatchEvent(new CustomEvent('autosave:state', { bubbles: true, detail: { state: name } }));
  }

  async save() {
    clearTimeout(this.timer);
    if (this.busy) { await this.busy; if (!this.changed) return; }
    this.busy = this.send();
    await this.busy;
    this.busy = null;
  }

  async send() {
    this.changed = false;
    const body = new URLSearchParams(new FormData(this.form));
    body.set('version', String(this.version));
    let answer;
    try {
      answer = await fetch(this.url, { method: 'PUT', body, headers: { accept: 'application/json' }, keepalive: true });
    } catch { this.again(); return; }
    if (answer.ok) {
      const saved = await answer.json();
      this.version = saved.version;
      this.form.dataset.version = String(saved.version);
      this.tries = 0;
      if (!this.changed) this.state('saved', saved.time);
      return;
    }
    if (answer.status === 409) {
      this.changed = true;
      clearTimeout(this.timer);
      this.state('conflict');
      const saved = await answer.json();
      this.form.dispatchEvent(new CustomEvent('autosave:conflict', { bubbles: true, detail: saved }));
      return;
    }
    const way = answer.headers.get('X-Qanun-Sign-In');
    if (way) { this.changed = true; this.state('waiting'); document.dispatchEvent(new CustomEvent('qanun:signed-out', { detail: way })); }
    if (answer.status >= 500 || answer.status === 429 || way) { this.again(); return; }
    this.changed = true;
    this.state('failed');
  }

  again() {
    this.changed = true;
    this.state('waiting');
    this.timer = setTimeout(() => this.save(), RETRY[Math.min(this.tries++, RETRY.length - 1)]);
  }
}

const start = (root) => {
  for (const form of root.querySelectorAll('form[data-autosave]')) if (!form.autosave) form.autosave = new Autosave(form);
};
start(document);
document.addEventListener('htmx:load', (event) => start(event.detail.elt.parentElement || document));
