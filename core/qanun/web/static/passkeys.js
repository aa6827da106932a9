// Passkeys in the browser (WebAuthn): the server speaks the specification's JSON, this turns it into bytes and back.
//   form[data-passkey-sign-in="/sign-in/passkey"]   a way in: its hidden [data-passkey] button appears where passkeys work;
//                                                   a field with autocomplete="… webauthn" offers them while it is filled
//   form[data-passkey-register="/account/passkeys"] makes one, under the name typed in [name=name]
//   [data-passkey-confirm="/confirm/passkey"]       inside “Confirm it is you”
// [data-origin] is the one address passkeys are made for. What went wrong is said in [data-passkey-error].

const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, '+').replace(/_/g, '/')), (one) => one.charCodeAt(0));
const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');
const json = { 'content-type': 'application/json', 'x-qanun-json': '1' };

const works = (origin) => Boolean(origin) && isSecureContext && location.origin === origin && 'PublicKeyCredential' in globalThis;

const descriptors = (list) => (list || []).map((one) => ({ ...one, id: bytes(one.id), transports: one.transports || undefined }));

async function options(url) {
  const answer = await post(`${url}/options`, {});
  if (!answer.ok) throw await refusal(answer);
  const { publicKey } = await answer.json();
  publicKey.challenge = bytes(publicKey.challenge);
  if (publicKey.user) publicKey.user.id = bytes(publicKey.user.id);
  publicKey.allowCredentials = descriptors(publicKey.allowCredentials);
  publicKey.excludeCredentials = descriptors(publicKey.excludeCredentials);
  return publicKey;
}

async function post(url, body) {
  const send = () => fetch(url, { method: 'POST', headers: json, body: JSON.stringify(body) });
  const answer = await send();
  if (!answer.headers.get('X-Qanun-Confirm')) return answer;
  const { confirmed } = await import('./confirm.js');
  if (!await confirmed()) throw new Cancelled();
  return send();
}

class Cancelled extends Error {}

async function refusal(answer) {
  const way = answer.headers.get('X-Qanun-Sign-In');
  if (way) location.assign(way);
  const told = await answer.json().catch(() => ({}));
  return new Error(Object.values(told.fields || {})[0] || '');
}

function asserted(credential) {
  const { response } = credential;
  return {
    id: credential.id, rawId: text(credential.rawId), type: credential.type, clientExtensionResults: {},
    response: {
      clientDataJSON: text(response.clientDataJSON), authenticatorData: text(response.authenticatorData),
      signature: text(response.signature), userHandle: response.userHandle ? text(response.userHandle) : null,
    },
  };
}

function attested(credential) {
  const { response } = credential;
  return {
    id: credential.id, rawId: text(credential.rawId), type: credential.type, clientExtensionResults: {},
    response: {
      clientDataJSON: text(response.clientDataJSON), attestationObject: text(response.attestationObject),
      transports: response.getTransports?.() || [],
    },
  };
}

/** Says what went wrong beside the button; a person who closed the device's own window knows that they did. */
async function telling(place, act) {
  place.hidden = true;
  try {
    return await act();
  } catch (error) {
    if (error instanceof Cancelled || error.name === 'NotAllowedError' || error.name === 'AbortError') return null;
    const known = error.name === 'InvalidStateError' ? place.dataset.already : error.name === 'Error' ? error.message : '';
    place.textContent = known || place.dataset.failed;
    place.hidden = false;
    return null;
  }
}

// ── the way in ────────────────────────────────────────────────────────────
let waiting = null;

async function signIn(form, mediation) {
  waiting?.abort();
  const control = new AbortController();
  waiting = control;
  const url = form.dataset.passkeySignIn;
  const publicKey = await options(url);
  const credential = await navigator.credentials.get({ publicKey, mediation, signal: control.signal });
  const answer = await post(url, { answer: asserted(credential), next: form.querySelector('[name=next]')?.value || '' });
  if (!answer.ok) throw await refusal(answer);
  location.assign((await answer.json()).to);
}

async function offerWhileTyping(form, told) {
  const able = await globalThis.PublicKeyCredential.isConditionalMediationAvailable?.().catch(() => false);
  if (!able) return;
  const once = () => telling(told, () => signIn(form, 'conditional'));
  once();
  // A question is good for five minutes; a page stands open for longer.
  setInterval(() => { if (!document.hidden) once(); }, 240_000);
}

for (const form of document.querySelectorAll('form[data-passkey-sign-in]')) {
  if (works(form.dataset.origin)) {
    const button = form.querySelector('[data-passkey]');
    const told = form.querySelector('[data-passkey-error]');
    for (const part of form.querySelectorAll('[data-passkey-part]')) part.hidden = false;
    button.addEventListener('click', () => telling(told, () => signIn(form, 'optional')));
    offerWhileTyping(form, told);
  }
}

// ── making one ────────────────────────────────────────────────────────────
for (const form of document.querySelectorAll('form[data-passkey-register]')) {
  const told = form.querySelector('[data-passkey-error]');
  if (works(form.dataset.origin)) {
    form.hidden = false;
    document.querySelector('[data-passkey-unable]')?.remove();
  }
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    telling(told, async () => {
      const url = form.dataset.passkeyRegister;
      const publicKey = await options(url);
      const credential = await navigator.credentials.create({ publicKey });
      const answer = await post(url, { answer: attested(credential), name: form.querySelector('[name=name]').value });
      if (!answer.ok) throw await refusal(answer);
      location.reload();
    });
  });
}

// ── “Confirm it is you” ───────────────────────────────────────────────────
export function passkeyOffered(box, done) {
  const button = box.querySelector('[data-passkey-confirm]');
  if (!button || !works(button.dataset.origin)) return;
  const told = box.querySelector('[data-passkey-error]');
  for (const part of box.querySelectorAll('[data-passkey-part]')) part.hidden = false;
  button.addEventListener('click', () => telling(told, async () => {
    const url = button.dataset.passkeyConfirm;
    const credential = await navigator.credentials.get({ publicKey: await options(url) });
    const answer = await post(url, { answer: asserted(credential) });
    if (!answer.ok) throw await refusal(answer);
    done();
  }));
}

const page = document.querySelector('form[data-confirm-page]');
if (page) {
  passkeyOffered(page, () => {
    for (const own of page.querySelectorAll('[name^=qanun_]')) own.remove();
    page.action = page.dataset.to;
    if (page.dataset.method === 'post') page.submit(); else location.assign(page.dataset.to);
  });
}
