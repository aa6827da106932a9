// “Confirm it is you”: a dialog over the page, before a form that needs it leaves (`data-fresh` on the form), after an
// answer that asked for it (htmx), or because a module asks: `await confirmed()`. Gives true once it is confirmed, false
// when the person closed the dialog. Where it is asked stands on <body data-confirm>.

let open = null;

export function confirmed() {
  open ||= ask().finally(() => { open = null; });
  return open;
}

async function ask() {
  const where = document.body.dataset.confirm;
  const answer = await fetch(where, { headers: { 'hx-request': 'true' } });
  if (answer.status === 204) return true;
  if (!answer.ok) return way(answer);
  document.getElementById('confirm')?.remove();
  document.body.insertAdjacentHTML('beforeend', await answer.text());
  const box = document.getElementById('confirm');
  const { passkeyOffered } = await import('./passkeys.js').catch(() => ({}));
  return new Promise((resolve) => {
    let done = false;
    const end = () => { done = true; box.close(); };
    box.addEventListener('close', () => { box.remove(); resolve(done); });
    box.querySelector('form').addEventListener('submit', async (event) => {
      event.preventDefault();
      if (await send(event.target)) end();
    });
    passkeyOffered?.(box, end);
    box.showModal();
    box.querySelector('input').focus();
  });
}

function way(answer) {
  const to = answer.headers.get('X-Qanun-Sign-In');
  if (to) location.assign(to);
  return false;
}

async function send(form) {
  const told = form.querySelector('[data-confirm-error]');
  let answer;
  try {
    answer = await fetch(form.action, { method: 'POST', headers: { 'x-qanun-json': '1' }, body: new URLSearchParams(new FormData(form)) });
  } catch { return false; /* the connection's own mark says so */ }
  if (answer.status === 204) return true;
  if (answer.status !== 422 && answer.status !== 429) return way(answer);
  const [words] = Object.values((await answer.json()).fields);
  told.textContent = words;
  told.hidden = false;
  form.querySelector('input').select();
  return false;
}
