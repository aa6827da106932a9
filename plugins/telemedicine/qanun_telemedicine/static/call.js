// A call on a page: pictures, controls, chat, the question of being recorded. The same for both sides; which elements
// there are, and how they look, is the page's affair.
//
//   data-remote  data-self  data-time  data-quality  data-quality-text  data-people  data-recording  data-consented
//   data-consent (the question)  data-notice  data-act="mute | camera | record | pause | withdraw | leave | enlarge"
//   data-answer="given | refused"
//
// The chat, what is shown beside the camera, and end-to-end encryption have files of their own.

import { asks, offers } from "./asking.js";
import { Captions } from "./captions.js";
import { Chat } from "./chat.js";
import { openDevices, closeStream } from "./devices.js";
import { Extras } from "./extras.js";
import { MediaSession } from "./media.js";
import { Safety } from "./safety.js";
import { Still } from "./still.js";
import { Transcript } from "./transcript.js";

const MEDIA = new Set(["answer", "tracks", "restarted", "layers", "sound", "quality", "error"]);
const REFUSALS = { unavailable: "unavailable-now", locked: "locked", full: "full", unsealed: "cannot-seal", apart: "apart", "closed-record": "closed-record" };
// Refusals after which the page does not try again by itself.
const STAYS_OUT = ["locked", "full", "unsealed", "apart", "closed-record"];
const REPORT_MS = 10_000;
const CREDENTIALS_MS = 8 * 60 * 1000;

export class Call extends EventTarget {
  constructor(root, line, { relay = false } = {}) {
    super();
    this.root = root;
    this.line = line;
    this.words = JSON.parse(root.dataset.words);
    this.relay = relay;
    this.me = "";
    this.state = null;
    this.stream = null;
    this.session = null;
    this.starting = false;
    this.video = root.dataset.mode !== "voice";
    this.iceServers = [];
    this.available = true;
    line.addEventListener("message", (event) => this.#heard(event.detail));
    line.addEventListener("down", () => this.notice("reconnecting"));
    line.addEventListener("over", (event) => this.#over(event.detail.code));
    root.addEventListener("click", (event) => {
      const button = event.target.closest("[data-act], [data-answer]");
      if (button && root.contains(button)) this.#press(button);
    });
    this.chat = new Chat(this);
    new Captions(this);
    new Transcript(this);
    this.extras = new Extras(this);
    this.safety = new Safety(this);
    this.still = new Still();
    setInterval(() => this.#clock(), 1000);
    setInterval(() => this.#report(), REPORT_MS);
    setInterval(() => this.session && line.send({ type: "servers" }), CREDENTIALS_MS);
  }

  one(selector) {
    return this.root.querySelector(selector);
  }

  get running() {
    return this.session !== null;
  }

  /** Camera and microphone, unless they are open already. */
  async prepare() {
    if (this.stream?.getTracks().some((track) => track.readyState === "live")) return this.stream;
    const { stream, faults } = await openDevices({ video: this.video });
    this.use(stream, faults);
    return stream;
  }

  use(stream, faults = {}) {
    this.stream = stream;
    this.faults = faults;
    const view = this.one("[data-self]");
    if (view) {
      view.srcObject = stream;
      view.hidden = !stream?.getVideoTracks().length;
    }
    this.#show();
    if (faults.audio || faults.video) this.notice(faults.audio ? "no-microphone" : "no-camera");
  }

  async start() {
    if (this.session || this.starting || !this.available) return;
    this.starting = true;
    const stream = await this.prepare().catch(() => null);
    // In the clear is no second choice: who cannot encrypt stays outside of an encrypted call.
    const seal = await this.safety.begin();
    if (!this.starting) return;
    this.starting = false;
    if (seal === undefined) return;
    const session = new MediaSession({
      send: (message) => this.line.send(message),
      iceServers: this.iceServers,
      policy: this.relay ? "relay" : "all",
      simulcast: true,
      stream,
      seal,
    });
    this.session = session;
    session.addEventListener("remote", () => this.#pictures());
    session.addEventListener("uplink", (event) => this.notice(event.detail.held ? "heard-only" : ""));
    session.addEventListener("stats", () => this.still.look(this.one("[data-remote]")?.children ?? [], this.words["picture-still"]));
    for (const name of ["state", "quality", "stats"]) session.addEventListener(name, () => this.#show());
    this.#show();
    session.start();
    this.#tell("started");
  }

  /** Every ten seconds the clinic hears how it looks from here: freezes since, the width shown, the way taken. */
  #report() {
    const stats = this.session?.stats;
    if (!stats) return;
    const connection = navigator.connection;
    const network = ["wifi", "cellular", "ethernet"].includes(connection?.type) ? connection.type : connection?.effectiveType ?? "";
    const freezes = Math.max(0, stats.freezes - (this.frozen ?? 0));
    this.frozen = stats.freezes;
    this.line.send({ type: "seen", freezes, width: stats.width ?? 0, relayed: Boolean(stats.relayed), network });
  }

  /** Out of the call; the visit itself goes on. */
  stop({ keepDevices = false } = {}) {
    const session = this.session;
    this.session = null;
    this.starting = false;
    session?.close();
    this.safety.end();
    if (!keepDevices) {
      closeStream(this.stream);
      this.stream = null;
      const view = this.one("[data-self]");
      if (view) view.srcObject = null;
    }
    this.one("[data-remote]")?.replaceChildren();
    this.#show();
  }

  // -- what the server says ------------------------------------------------------------------------------------------

  #heard(message) {
    if (MEDIA.has(message.type)) {
      this.session?.receive(message);
      return;
    }
    switch (message.type) {
      case "welcome":
        this.me = message.me;
        this.iceServers = message.ice_servers;
        this.available = message.video;
        this.notice(message.video ? "" : "unavailable");
        if (this.session) {
          this.line.send({ type: "back" });
          this.session.signallingRestored(message.ice_servers);
        }
        break;
      case "servers":
        this.iceServers = message.ice_servers;
        this.session?.signallingRestored(message.ice_servers);
        break;
      case "state":
        this.state = message;
        if (message.state === "ended" || message.state === "cancelled") this.stop();
        this.#show();
        break;
      case "speaker":
        for (const tile of this.root.querySelectorAll("[data-tile]")) {
          tile.classList.toggle("speaks", tile.dataset.tile === message.participant);
        }
        break;
      case "problem":
        // Keys that came too early are sent again by themselves.
        if (message.about === "keys") break;
        this.notice(REFUSALS[message.code] ?? "refused", Object.values(message.fields ?? {})[0]);
        if (STAYS_OUT.includes(message.code)) this.stop();
        break;
    }
    this.#tell(message.type, message);
  }

  #over(code) {
    this.stop();
    this.notice(code);
    this.#tell("over", { code });
  }

  // -- pictures ------------------------------------------------------------------------------------------------------

  #pictures() {
    const box = this.one("[data-remote]");
    if (!box || !this.session) return;
    const wanted = new Map();
    for (const [id, { camera, screen }] of this.session.participants) {
      wanted.set(id, { id, stream: camera, screen: false });
      if (screen) wanted.set(`${id}/screen`, { id, stream: screen, screen: true });
    }
    for (const tile of [...box.children]) if (!wanted.has(tile.dataset.key)) tile.remove();
    for (const [key, { id, stream, screen }] of wanted) {
      let tile = [...box.children].find((one) => one.dataset.key === key);
      if (!tile) {
        tile = document.createElement("div");
        tile.className = screen ? "q-tm-tile screen" : "q-tm-tile";
        tile.dataset.key = key;
        tile.dataset.tile = id;
        const video = document.createElement("video");
        video.autoplay = true;
        video.playsInline = true;
        const name = document.createElement("span");
        name.className = "name";
        name.dir = "auto";
        tile.append(video, name);
        box.append(tile);
      }
      const video = tile.querySelector("video");
      if (video.srcObject !== stream) video.srcObject = stream;
      video.setAttribute("aria-label", this.#name(id));
      tile.querySelector(".name").textContent = this.#name(id);
      // Without a gesture some browsers play only when asked again, after one.
      video.play().catch(() => this.notice("press-to-hear"));
    }
    box.dataset.tiles = box.children.length;
    this.#tell("pictures");
  }

  #name(id) {
    const known = [...(this.state?.people ?? []), ...(this.state?.devices ?? [])];
    return known.find((one) => one.id === id)?.name ?? "";
  }

  // -- showing -------------------------------------------------------------------------------------------------------

  #show() {
    const words = this.words;
    this.root.dataset.running = String(this.running);
    const mic = this.stream?.getAudioTracks()[0];
    const camera = this.stream?.getVideoTracks()[0];
    this.#toggle("mute", !mic?.enabled, mic?.enabled ? words.mute : words.unmute, !mic);
    this.#toggle("camera", !camera?.enabled, camera?.enabled ? words["camera-off"] : words["camera-on"], !camera);
    this.#quality();
    if (!this.state) return;
    const { recording, people } = this.state;
    const others = people.filter((one) => !one.me);
    const text = this.one("[data-people]");
    if (text) {
      const here = others.filter((one) => one.connected);
      text.textContent = here.length ? here.map((one) => one.name).join(" · ") : words.alone;
    }
    this.#pictures();
    const empty = this.one("[data-empty]");
    if (empty) {
      empty.hidden = Boolean(this.session?.participants.size);
      empty.textContent = others.some((one) => one.connected) ? words.connecting : words.alone;
    }
    const mark = this.one("[data-recording]");
    if (mark) {
      const name = { recording: "recording", paused: "paused" }[recording.state] ?? (recording.asked ? "asked" : "off");
      // Paused by the clinic, or only until everybody has answered.
      mark.textContent = words[!recording.offered ? "recording-never" : name === "paused" && !recording.held ? "recording-waits" : `recording-${name}`];
      mark.classList.toggle("q-rec", name === "recording");
      mark.dataset.recording = name;
    }
    const consented = this.one("[data-consented]");
    if (consented) {
      consented.hidden = !recording.asked;
      consented.querySelector("bdi").textContent = `${recording.given}/${recording.needed}`;
    }
    asks(this.one("[data-consent]"), this.running && recording.asked && recording.mine === "open");
    const label = recording.asked ? words["stop-recording"] : words.record;
    offers(this.one('[data-act="record"]'), { shown: recording.offered, on: recording.asked, label });
    const pause = this.one('[data-act="pause"]');
    if (pause) {
      pause.hidden = !recording.asked || recording.state === "none";
      this.#toggle("pause", recording.held, recording.held ? words["go-on-recording"] : words["pause-recording"], false);
      for (const picture of pause.querySelectorAll("[data-on]")) picture.hidden = (picture.dataset.on === "1") !== recording.held;
    }
    const withdraw = this.one('[data-act="withdraw"]');
    if (withdraw) withdraw.hidden = !(recording.asked && recording.mine === "given");
    if (recording.declined) this.notice("declined");
  }

  #toggle(act, off, label, disabled) {
    const button = this.one(`[data-act="${act}"]`);
    if (!button) return;
    button.setAttribute("aria-pressed", String(off));
    button.classList.toggle("off", off);
    button.disabled = disabled;
    const caption = button.querySelector("[data-label]");
    if (caption) caption.textContent = label;
    else button.setAttribute("aria-label", label);
    button.title = label;
  }

  #quality() {
    const text = this.one("[data-quality-text]");
    if (!text) return;
    const state = this.session?.state;
    const name = state === "reconnecting" || state === "connecting" ? state : this.session?.quality ?? "good";
    const rtt = this.session?.stats?.rtt;
    text.textContent = this.words[name] ?? this.words.good;
    const figure = this.one("[data-rtt]");
    if (figure) figure.textContent = rtt && name !== "connecting" ? `${Math.round(rtt)} ms` : "";
    this.one("[data-quality]")?.setAttribute("data-quality", name);
    this.root.dataset.media = state ?? "none";
  }

  #clock() {
    const at = this.state?.admitted_at;
    const place = this.one("[data-time]");
    if (!at || !place || this.state.state !== "in-progress") return;
    const seconds = Math.max(0, Math.floor((Date.now() - Date.parse(at)) / 1000));
    const two = (number) => String(number).padStart(2, "0");
    const hours = Math.floor(seconds / 3600);
    place.textContent = `${hours ? `${hours}:` : ""}${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
  }

  /** Silence this page's microphone, as its own button would; false when it was silent already. */
  silence() {
    if (!this.stream?.getAudioTracks().some((track) => track.enabled)) return false;
    this.#switch("audio");
    this.notice("muted-by-moderator");
    return true;
  }

  notice(code, text = "") {
    const place = this.one("[data-notice]");
    if (!place) return;
    const words = text || (code ? this.words[code] ?? "" : "");
    place.textContent = words;
    place.hidden = !words;
  }

  // -- acts ----------------------------------------------------------------------------------------------------------

  #press(button) {
    if (button.dataset.answer) {
      this.line.send({ type: "consent", decision: button.dataset.answer, version: this.root.dataset.wording });
      return;
    }
    switch (button.dataset.act) {
      case "mute":
        this.#switch("audio");
        break;
      case "camera":
        this.#switch("video");
        break;
      case "chat":
        this.chat.toggle();
        break;
      case "record":
        this.notice("");
        this.line.send({ type: "record", on: !this.state?.recording.asked });
        break;
      case "pause":
        this.line.send({ type: "pause", on: !this.state?.recording.held });
        break;
      case "withdraw":
        this.line.send({ type: "consent", decision: "withdrawn", version: this.root.dataset.wording });
        break;
      case "enlarge":
        if (document.fullscreenElement) document.exitFullscreen();
        else this.one("[data-stage]")?.requestFullscreen?.().catch(() => {});
        break;
      case "join":
        this.start();
        break;
      case "leave":
        this.stop();
        this.#tell("left");
        break;
      default:
        this.extras.press(button);
        this.safety.press(button);
    }
  }

  #switch(kind) {
    for (const track of this.stream?.getTracks() ?? []) if (track.kind === kind) track.enabled = !track.enabled;
    this.#show();
    this.#tell("switched", { kind });
  }

  #tell(name, detail = null) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
