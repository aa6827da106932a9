// The set-up's pages: printing, and following the machine while it goes over to its own address and certificate.

for (const button of document.querySelectorAll('[data-print]')) button.addEventListener('click', () => print());

const place = document.querySelector('[data-setup-progress]');
if (place) {
  const over = document.querySelector('[data-setup-over]');
  const hosts = place.dataset.hosts.split(' ').filter(Boolean);
  let misses = 0;

  // No answer can be read from another address, but that there is one can be told.
  const isThere = async (host) => {
    try {
      await fetch(`https://${host}/qanun-ca.crt`, { mode: 'no-cors', cache: 'no-store', signal: AbortSignal.timeout(4000) });
      return true;
    } catch { return false; }
  };

  const look = async () => {
    try {
      const answer = await fetch('/setup/progress', { cache: 'no-store', signal: AbortSignal.timeout(4000) });
      if (answer.ok) {
        const state = await answer.json();
        // Only now is it known where the machine will be, and this page may ask nobody that it was not told of.
        if (state.hosts.join(' ') !== place.dataset.hosts) { location.reload(); return; }
        place.innerHTML = state.html;
        over.hidden = !state.over;
        misses = 0;
        if (state.state === 'failed') return;
      } else {
        // Somebody else answers here now: the machine itself. While it starts it says 503.
        const health = await fetch('/health', { cache: 'no-store' });
        const status = health.ok ? (await health.json()).status : '';
        if (status === 'ok') { location.assign('/sign-in'); return; }
        over.hidden = false;
      }
    } catch {
      misses += 1;
      over.hidden = misses < 3;
      for (const host of hosts) {
        if (host !== location.host && await isThere(host)) { location.assign(`https://${host}/sign-in`); return; }
      }
    }
    setTimeout(look, 1500);
  };
  setTimeout(look, 1000);
}
