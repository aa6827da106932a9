// The visit of a patient or a guest: device check → waiting room → call → after. One page, so that the camera opens once.

import { Call } from "./call.js";
import { chime, closeStream, meter, relayAnswers } from "./devices.js";
import { weak } from "./figures.js";
import { Group } from "./group.js";
import { Line } from "./line.js";
import { roundTrip } from "./roundtrip.js";
import { answerPictures } from "./pictures.js";
import { canSeal } from "./sealing.js";
import { Together } from "./together.js";

const page = document.getElementById("visit");
const root = document.getElementById("telemedicine-call");
const words = JSON.parse(page.dataset.words);
const line = new Line(page.dataset.socket);
const call = new Call(root, line, { relay: page.dataset.relay === "1" });
page.call = call;
answerPictures(call);
new Group(call);

let stopMeter = () => {};
let heard = false;
let wait = page.dataset.start === "waiting";
let join = page.dataset.start === "call";
let chimed = false;

const one = (selector) => page.querySelector(selector);
const group = new Together(call, one("[data-together]"), () => ready());

function step(name) {
  if (page.dataset.step === name) return;
  page.dataset.step = name;
  for (const part of page.querySelectorAll("[data-part]")) part.hidden = part.dataset.part !== name;
  const heading = one(`[data-part="${name}"] h1`);
  heading?.setAttribute("tabindex", "-1");
  heading?.focus({ preventScroll: true });
}

// ── device check ────────────────────────────────────────────────────────────────────────────────────────────────────

const ICONS = { ok: "check", warn: "alert-triangle", bad: "x", ask: "" };

function mark(name, tone, text) {
  const row = one(`[data-check="${name}"]`);
  if (!row) return; // a visit by voice has no camera
  row.dataset.tone = tone;
  row.querySelector(".s").textContent = text;
  const dot = row.querySelector(".q-okdot");
  dot.className = `q-okdot ${{ ok: "", warn: "warn", bad: "bad", ask: "ask" }[tone]}`;
  for (const picture of dot.children) picture.toggleAttribute("hidden", picture.dataset.icon !== (ICONS[tone] || "own"));
}

/** Settled once the camera and the microphone have been asked for. */
let opened = () => {};
const devices = new Promise((resolve) => {
  opened = resolve;
});

async function check() {
  const stream = await call.prepare();
  opened();
  const faults = call.faults ?? {};
  const camera = stream?.getVideoTracks()[0];
  const microphone = stream?.getAudioTracks()[0];
  if (camera) mark("camera", "ok", camera.label || words["camera-ready"]);
  else mark("camera", call.video ? "bad" : "warn", call.video ? words[`camera-${faults.video ?? "missing"}`] : words["voice-only"]);
  if (microphone) mark("microphone", "ok", words["say-something"]);
  else mark("microphone", "bad", words[`microphone-${faults.audio ?? "missing"}`]);
  const preview = one("[data-preview]");
  preview.srcObject = stream;
  preview.hidden = !camera;
  one("[data-help]").hidden = Boolean(microphone);
  stopMeter();
  const bars = [...page.querySelectorAll("[data-level] i")];
  stopMeter = meter(stream, (level) => {
    const on = level === null ? 0 : Math.round(level * bars.length);
    bars.forEach((bar, number) => bar.classList.toggle("on", number < on));
    if (level !== null && level > 0.06) heard = true;
    one("[data-level-text]").textContent = level === null ? (microphone ? words["microphone-on"] : words["microphone-off"]) : heard ? words["we-hear"] : words["say-something"];
  });
  ready();
}

function ready() {
  const usable = Boolean(call.stream?.getAudioTracks().length) && line.up && (canSeal() || !call.safety.wanted);
  for (const button of page.querySelectorAll("[data-go]")) button.disabled = !usable || !group.agreed;
  one("[data-again]").hidden = usable;
}

let trial = null;

/** Whether a call would work from here: tried, not guessed. */
async function network(servers) {
  trial?.abort();
  const mine = (trial = new AbortController());
  mark("network", "ask", words["network-checking"]);
  const [relay, trip] = await Promise.all([
    relayAnswers(servers).catch(() => false),
    devices.then(() => call.available && call.stream && !mine.signal.aborted
      ? roundTrip({ line, iceServers: servers, stream: call.stream, policy: call.relay ? "relay" : "all", signal: mine.signal, sealed: sealed && canSeal() }) : null).catch(() => null),
  ]);
  if (!line.up || mine.signal.aborted || trip?.reason === "stopped") return;
  page.dataset.trip = JSON.stringify(trip);
  let works = call.available;
  if (!call.available) mark("network", "bad", words["video-unavailable"]);
  else if (trip && !trip.ok) {
    works = false;
    mark("network", "bad", words["network-blocked"]);
  } else if (trip && weak(trip, call.stream?.getVideoTracks().length > 0)) mark("network", "warn", words["network-weak"]);
  else if (relay === false) mark("network", "warn", words["network-narrow"]);
  else mark("network", "ok", trip ? words["network-tried"].replace("{n}", `\u2066${trip.rtt} ms\u2069`) : words["network-good"]);
  one("[data-help]").hidden = works && Boolean(call.stream?.getAudioTracks().length);
}

line.addEventListener("down", () => {
  mark("network", "bad", words["network-down"]);
  ready();
});

page.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  switch (button?.dataset.do) {
    case "chime":
      chimed = chime();
      one("[data-chimed]").hidden = !chimed;
      mark("speaker", chimed ? "ask" : "warn", chimed ? words["heard-it"] : words["speaker-unknown"]);
      break;
    case "heard":
      mark("speaker", "ok", words["speaker-good"]);
      one("[data-chimed]").hidden = true;
      break;
    case "not-heard":
      mark("speaker", "warn", words["speaker-bad"]);
      break;
    case "again":
      closeStream(call.stream);
      call.stream = null;
      check().then(() => line.up && network(call.iceServers));
      break;
    case "voice":
      call.video = false;
      for (const track of call.stream?.getVideoTracks() ?? []) {
        track.stop();
        call.stream.removeTrack(track);
      }
      enter();
      break;
    case "enter":
      enter();
      break;
    case "leave-waiting":
      wait = false;
      line.send({ type: "leave" });
      call.stop();
      location.assign(page.dataset.home);
      break;
    case "return":
      join = true;
      arrive(call.state);
      break;
  }
});

function enter() {
  stopMeter();
  trial?.abort();
  if (call.state?.state === "in-progress") {
    join = true;
    arrive(call.state);
    return;
  }
  wait = true;
  line.send({ type: "enter" });
  step("waiting");
}

// ── waiting room ──────────────────────────────────────────────────────────────────────────────────────────────────────

// A guest has none.
const concern = one("[data-concern]");
let concernTimer = 0;
let concernSent = concern?.value ?? "";

function keepConcern() {
  clearTimeout(concernTimer);
  if (!concern || concern.value === concernSent) return;
  if (line.send({ type: "concern", text: concern.value })) concernSent = concern.value;
}

concern?.addEventListener("input", () => {
  one("[data-concern-saved]").hidden = true;
  clearTimeout(concernTimer);
  concernTimer = setTimeout(keepConcern, 600);
});
concern?.addEventListener("blur", keepConcern);

// Messages of the clinic, newest first; a new one is heard as well as seen.
const read = new Set();
let firstNotices = true;

function showNotices(notices) {
  const list = one("[data-notices]");
  let fresh = false;
  for (const notice of [...notices].reverse()) {
    if (read.has(notice.id)) continue;
    read.add(notice.id);
    fresh = true;
    const line = document.createElement("div");
    const at = Object.assign(document.createElement("bdi"), { className: "q-xs", dir: "ltr" });
    at.textContent = new Date(notice.at).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
    const words = Object.assign(document.createElement("p"), { dir: "auto", textContent: notice.text });
    line.append(at, words);
    list.prepend(line);
  }
  one("[data-notices-card]").hidden = !list.children.length;
  if (fresh && !firstNotices && wait) chime();
  firstNotices = false;
}

// Where they are: help may have to find them.
const place = one("[data-place]");
place?.addEventListener("submit", (event) => {
  event.preventDefault();
  line.send({ type: "place", text: place.elements.place.value, country: place.elements.country.value });
});
place?.addEventListener("input", () => {
  one("[data-placed]").hidden = true;
});

function showPlace(known) {
  const typed = place?.elements.place.value.trim().replace(/\s+/g, " ");
  if (!place || !known || known.text !== typed || known.country !== place.elements.country.value) return;
  one("[data-placed]").hidden = false;
  one("[data-number]").textContent = known.number;
  one("[data-number-known]").hidden = !known.number;
}

// Whom they meet; a colleague can take the visit while they wait.
let met = "";

function showHolder(holder) {
  if (!holder || holder.id === met) return;
  if (met) one("[data-changed]").hidden = false;
  met = holder.id;
  for (const place of page.querySelectorAll("[data-with]")) place.textContent = holder[place.dataset.with];
  for (const place of page.querySelectorAll("[data-with-letters] > *")) place.textContent = holder.letters;
  one("[data-with-licence]").hidden = !holder.licence;
}

function showQueue(state) {
  showNotices(state.notices);
  showPlace(state.place);
  one("[data-position]").textContent = state.position === 0 || state.position === null ? words.next : words.before.replace("{n}", state.position);
  if (concern && state.concern && state.concern === concern.value.trim()) one("[data-concern-saved]").hidden = false;
  const live = Boolean(call.stream?.getAudioTracks().length);
  one("[data-ready]").textContent = live ? words.ready : words["not-ready"];
}

// ── end-to-end encryption ────────────────────────────────────────────────────────────────────────────────────────────

let sealed = root.dataset.encrypted === "true";

/** Whether it has it is said before anybody is in the call, and also that the clinic changed its mind. */
function showEncryption(on) {
  one('[data-check="encryption"]').hidden = !on;
  if (on) mark("encryption", canSeal() ? "ok" : "bad", words[canSeal() ? "sealed" : "cannot-seal"]);
  const note = one("[data-encryption-note]");
  const off = sealed && !on;
  if (on || off) {
    note.hidden = false;
    note.querySelector("span").textContent = words[off ? "sealed-off" : canSeal() ? "sealed" : "cannot-seal"];
    note.classList.toggle("warn", off || !canSeal());
  }
  sealed = on;
  if (page.dataset.step === "check") ready();
}

// ── where the visit stands ────────────────────────────────────────────────────────────────────────────────────────────

function arrive(state) {
  if (!state) return;
  showHolder(state.with);
  showEncryption(state.encryption.on);
  if (state.state === "ended" || state.state === "cancelled") {
    for (const one of page.querySelectorAll("[data-outcome]")) one.hidden = one.dataset.outcome !== state.state;
    stopMeter();
    step("after");
    line.end();
    return;
  }
  if (state.group?.apart) {
    // They were let in, and their record was closed to who leads the group.
    if (wait || join) {
      wait = false;
      join = true;
      call.stop();
      step("apart");
    }
    return;
  }
  // Open again: whether they come back is theirs to say.
  if (page.dataset.step === "apart") {
    join = false;
    step("left");
  }
  if (state.state === "in-progress") {
    if ((wait || join) && !call.running) {
      wait = false;
      join = true;
      stopMeter();
      step("call");
      call.start();
    }
    return;
  }
  showQueue(state);
  if (wait) step("waiting");
}

call.addEventListener("state", (event) => arrive(event.detail));
call.addEventListener("welcome", (event) => {
  if (wait) line.send({ type: "enter" });
  keepConcern();
  if (page.dataset.step === "check") network(event.detail.ice_servers);
  ready();
});
call.addEventListener("left", () => {
  join = false;
  step("left");
});
call.addEventListener("over", (event) => {
  if (event.detail.code === "signed-out") location.reload();
  else step("elsewhere");
});

step(wait ? "waiting" : join ? "call" : page.dataset.start === "after" ? "after" : "check");
if (page.dataset.start !== "after") {
  line.open();
  if (!join) check();
}
