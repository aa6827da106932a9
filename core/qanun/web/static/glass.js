// A broken glass is told to the privacy officer on whatever page they are; the words stand in the shell, hidden until then.
document.body.addEventListener('live:core.glass', () => { document.querySelector('[data-glass]').hidden = false; });
