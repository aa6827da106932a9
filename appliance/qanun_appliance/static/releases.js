// Sends a release's file in pieces: a broken line goes on where it stopped.

const form = document.querySelector('[data-release]');
if (form) {
  const file = form.querySelector('input[type="file"]');
  const button = form.querySelector('button');
  const bar = form.querySelector('progress');
  const said = form.querySelector('[data-said]');
  const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });

  const send = async (blob) => {
    const piece = Number(form.dataset.piece);
    let offset = 0;
    let misses = 0;
    bar.hidden = false;
    bar.max = blob.size;
    while (offset < blob.size) {
      let answer;
      try {
        answer = await fetch(`/appliance/updates/pieces?offset=${offset}&size=${blob.size}`, {
          method: 'POST', body: blob.slice(offset, offset + piece),
          headers: { 'content-type': 'application/octet-stream', accept: 'application/json', 'x-qanun-json': '1' },
        });
      } catch {
        misses += 1;
        if (misses > 20) throw new Error(form.dataset.lost);
        await pause(Math.min(15000, 500 * misses));
        continue;
      }
      const body = await answer.json().catch(() => ({}));
      if (answer.status === 409 && Number.isInteger(body.received)) offset = body.received;
      else if (answer.ok) offset = body.received;
      else throw new Error(Object.values(body.fields || {})[0] || form.dataset.lost);
      misses = 0;
      bar.value = offset;
    }
  };

  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (!file.files.length) return;
    button.disabled = true;
    said.textContent = form.dataset.sending;
    try {
      await send(file.files[0]);
      location.assign('/appliance/updates');
    } catch (error) {
      said.textContent = error.message;
      button.disabled = false;
    }
  });
}
