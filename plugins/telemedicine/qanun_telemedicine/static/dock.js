// The call docked in the chart (or on the consultation's own page). It lives outside of everything that htmx swaps.

import { Call } from "./call.js";
import { Equipment } from "./equipment.js";
import { Group } from "./group.js";
import { Line } from "./line.js";
import { answerPictures, takePictures } from "./pictures.js";

const root = document.getElementById("telemedicine-call");

if (root && !root.call) {
  const line = new Line(root.dataset.socket);
  const call = new Call(root, line, { relay: new URLSearchParams(location.search).get("relay") === "1" });
  root.call = call;
  new Group(call);
  new Equipment(call);
  takePictures(call);
  answerPictures(call);
  let auto = root.dataset.auto === "1";
  let ending = false;
  let shown = root.dataset.shown;
  let key = "";

  /** The lobby again from the server; a form that is being filled in is left alone until the state itself changes. */
  function refresh(call) {
    const lobby = document.getElementById("telemedicine-lobby");
    // Of a group the visit whose chart this is has its own state.
    const visit = call.group?.visits?.find((one) => one.id === root.dataset.visit);
    const state = visit ?? call;
    const next = JSON.stringify([state.state, visit ?? call.patient_here, call.concern, call.notices.length, call.with?.id, call.place?.at, call.encryption.on]);
    if (!lobby || next === key) return;
    const first = key === "";
    key = next;
    const busy = lobby.querySelector("form [name=identifier]:checked, details[open]") || lobby.contains(document.activeElement);
    if ((first && shown === state.state) || (busy && shown === state.state)) return;
    shown = state.state;
    globalThis.htmx?.ajax("GET", root.dataset.lobby, { target: "#telemedicine-lobby", swap: "outerHTML" });
  }

  let known = "";
  let late = 0;

  /** The guests again; what is being filled in there is left alone, and looked at once more a little later. */
  function refreshGuests(guests) {
    clearTimeout(late);
    const place = document.getElementById("telemedicine-guests");
    const next = JSON.stringify(guests);
    if (!place || next === known) return;
    const field = place.contains(document.activeElement) && document.activeElement.matches("input:not([readonly]), select");
    if (field || place.querySelector("form [name=way]:checked")) {
      late = setTimeout(() => refreshGuests(call.state?.guests ?? guests), 3000);
      return;
    }
    const first = known === "";
    known = next;
    if (first && place.querySelectorAll(".q-tm-guests > li").length === guests.length) return;
    globalThis.htmx?.ajax("GET", root.dataset.guests, { target: "#telemedicine-guests", swap: "outerHTML" });
  }

  call.addEventListener("state", (event) => {
    const state = event.detail;
    refreshGuests(state.guests);
    root.dataset.state = state.state;
    refresh(state);
    if (state.state === "in-progress" && auto && !call.running) call.start();
    // Whoever ended it is on the way to what happened; a reload would turn them back.
    if (state.state === "ended" && !ending) location.reload();
  });
  call.addEventListener("left", () => {
    auto = false;
  });
  call.addEventListener("over", (event) => {
    if (event.detail.code === "signed-out") location.reload();
  });
  root.addEventListener("submit", (event) => {
    if (event.submitter?.matches("[data-end]")) ending = true;
  });
  // Whoever admits is in the call: the camera opens while the server still works.
  root.addEventListener("submit", (event) => {
    if (event.target.matches("[data-admit]")) {
      auto = true;
      call.prepare();
    }
  });
  root.addEventListener("click", async (event) => {
    const copy = event.target.closest("[data-copy]");
    if (copy) {
      await navigator.clipboard?.writeText(copy.dataset.copy).catch(() => {});
      copy.querySelector("[data-label]").textContent = copy.dataset.done;
    }
  });
  line.open();
}
