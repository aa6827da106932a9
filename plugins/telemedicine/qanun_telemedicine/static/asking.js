// What the clinic offers and everybody answers (a recording, captions, what is said): its button, and the question.

/** The clinic's button, which may be missing on this page: whether it is there, whether it was offered, and what pressing it does. */
export function offers(button, { shown, on, label }) {
  if (!button) return;
  button.hidden = !shown;
  button.setAttribute("aria-pressed", String(on));
  button.classList.toggle("on", on);
  button.title = label;
  button.setAttribute("aria-label", label);
}

/** The question, open while it waits for an answer. Whoever is asked stands at the first answer, once. */
export function asks(sheet, open) {
  if (!sheet || sheet.hidden !== open) return;
  sheet.hidden = !open;
  if (open) sheet.querySelector("[data-first]")?.focus();
}
