// Light or dark, as the system is set, and when that changes. Not a module: it runs before the first paint.
(() => {
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const show = () => { document.documentElement.dataset.bsTheme = dark.matches ? 'dark' : 'light'; };
  dark.addEventListener('change', show);
  show();
})();
