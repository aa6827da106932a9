// On every page of a clinician: somebody waits for you, with a sound where this device is to make one.

const SOUND = "qanun.summons.sound";
const TOPIC = "telemedicine.waiting";
const LASTS_MS = 60_000;

function sounds() {
  try {
    return localStorage.getItem(SOUND) === "1";
  } catch {
    return false; // This browser keeps nothing.
  }
}

function show(root) {
  for (const button of root.querySelectorAll('[data-summons="sound"]')) {
    button.setAttribute("aria-pressed", String(sounds()));
    button.querySelector("[data-on]").hidden = !sounds();
    button.querySelector("[data-off]").hidden = sounds();
  }
}

async function ring() {
  const { chime } = await import("./devices.js");
  chime();
}

function place() {
  const styles = new URL("summons.css", import.meta.url).href;
  if (!document.querySelector(`link[href="${CSS.escape(styles)}"]`)) {
    document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href: styles }));
  }
  let box = document.getElementById("telemedicine-summons");
  if (!box) {
    box = Object.assign(document.createElement("div"), { id: "telemedicine-summons" });
    document.body.append(box);
  }
  return box;
}

async function summoned(id) {
  // Whoever is in this very call needs no telling.
  const call = document.getElementById("telemedicine-call");
  if (call?.dataset.running === "true" && call.dataset.socket?.includes(id)) return;
  const answer = await fetch(`/telemedicine/consultations/${id}/summons`, { headers: { "hx-request": "true" } }).catch(() => null);
  if (answer?.status !== 200) return;
  const box = place();
  box.querySelector(`[data-consultation="${CSS.escape(id)}"]`)?.remove();
  box.insertAdjacentHTML("beforeend", await answer.text());
  const card = box.lastElementChild;
  show(box);
  if (sounds()) ring();
  setTimeout(() => card.remove(), LASTS_MS);
}

document.dispatchEvent(new CustomEvent("qanun:listen", { detail: TOPIC }));
document.body.addEventListener(`live:${TOPIC}`, (event) => summoned(event.detail.consultation));
document.addEventListener("click", (event) => {
  const button = event.target instanceof Element && event.target.closest("[data-summons]");
  if (!button) return;
  if (button.dataset.summons === "close") button.closest(".q-tm-summons").remove();
  else {
    try {
      localStorage.setItem(SOUND, sounds() ? "0" : "1");
    } catch {
      return;
    }
    show(document);
    if (sounds()) ring();
  }
});
show(document);
