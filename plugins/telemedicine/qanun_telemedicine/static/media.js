// The media half of a call in the browser: one RTCPeerConnection to the clinic's media server, kept alive by itself.
//
// It knows nothing of pages, chat or consent. Messages travel through whatever the page gives it:
//
//     const session = new MediaSession({ send, iceServers, policy: "all", stream });
//     session.addEventListener("remote", () => show(session.participants));
//     socket.onmessage = (event) => session.receive(JSON.parse(event.data));
//     session.start();
//
// This side always offers and the server always answers, so offers never collide. A few receiving sections are offered
// in advance: the server switches the tracks of others into them without asking again, and says which is whose.

import { figures } from "./figures.js";
import { byPerson } from "./received.js";
import { Silence } from "./silence.js";
import { Sources } from "./sources.js";
import { Timers } from "./timers.js";
import { Uplink } from "./uplink.js";

const SPARE_SECTIONS = 2;
const ANSWER_TIMEOUT_MS = 8000;
const DISCONNECTED_MS = 1500;
const RESTART_TIMEOUT_MS = 8000;
const CONNECT_TIMEOUT_MS = 12000;
const STATS_MS = 1000;
// While nothing comes, it is looked at more closely.
const DOUBT_MS = 350;
const REJOIN_MS = [0, 500, 1000, 2000, 4000, 8000];

/**
 * Messages to the server: {type: "join" | "offer", number, sdp, sources} and {type: "leave"}.
 * Messages from it: {type: "answer", number, sdp, tracks, wanted, connection, revision}, {type: "tracks", tracks, wanted,
 * connection, revision}, {type: "layers", layers, connection} (which layers by mid somebody receives),
 * {type: "sound", bitrate, connection} (what the microphone may take; 0: what it likes), {type: "restarted"},
 * {type: "quality", state, ...}, {type: "error", number, code}.
 *
 * Events: "state" (new, connecting, connected, reconnecting, closed), "remote" (participants changed), "quality",
 * "uplink" (detail.held: only the sound is sent, the way carries no more), "stats", "restart" (another path is looked for), "rejoin" (another connection is made), "problem" (detail.code; the session
 * goes on trying unless it says closed).
 */
export class MediaSession extends EventTarget {
  #send;
  #iceServers;
  #policy;
  #spares;
  #seal;
  #peer = null;
  #joined = false;
  #number = 0;
  #pending = null;
  #again = false;
  #restartWanted = false;
  #attempts = 0;
  #began = 0;
  #silence = new Silence();
  #uplink = new Uplink();
  #timers = new Timers();
  #sources;
  #assigned = [];
  #connection = null;
  #revision = -1;
  #early = null;
  #lastStats = null;
  #onOnline = () => this.#networkChanged();

  constructor({
    send,
    iceServers = [],
    policy = "all",
    stream = null,
    simulcast = false,
    maxBitrate = 1500000,
    scalability = null,
    spares = SPARE_SECTIONS,
    seal = null,
  }) {
    super();
    this.#send = send;
    this.#iceServers = iceServers;
    this.#policy = policy;
    this.#spares = spares;
    this.#seal = seal;
    this.#sources = new Sources({ stream, simulcast, maxBitrate, scalability, seal });
    this.state = "new";
    this.quality = "good";
    /** Participant id → { camera: MediaStream, screen: MediaStream | null }. */
    this.participants = new Map();
  }

  /** Connect. The page calls it once the person is admitted. */
  start() {
    globalThis.addEventListener("online", this.#onOnline);
    globalThis.navigator.connection?.addEventListener?.("change", this.#onOnline);
    this.#timers.every("stats", STATS_MS, () => this.#measure());
    return this.#join();
  }

  /** Hang up; the session cannot be used again. */
  close() {
    if (this.state === "closed") return;
    this.#tell({ type: "leave" });
    globalThis.removeEventListener("online", this.#onOnline);
    globalThis.navigator.connection?.removeEventListener?.("change", this.#onOnline);
    this.#drop();
    this.#timers.stop();
    this.participants = new Map();
    this.#enter("closed");
  }

  /** A message of the server for this session. */
  async receive(message) {
    if (this.state === "closed") return;
    switch (message.type) {
      case "answer":
        return this.#answered(message);
      case "tracks":
        return this.#announced(message);
      case "layers":
      case "sound":
        return this.#ordered(message);
      case "restarted":
        return this.#rejoin("restarted", true);
      case "quality":
        return this.#judged(message);
      case "error":
        return this.#refused(message);
    }
  }

  /** The page's own connection to the server is back: make sure that media is, too. */
  signallingRestored(iceServers = null) {
    if (iceServers) this.#iceServers = iceServers;
    if (this.state === "closed" || this.state === "new") return;
    if (this.#pending || !this.#joined || this.#peer?.connectionState !== "connected") this.#rejoin("signalling", true);
  }

  /** Another camera or microphone, or none for a while (null), without negotiating. */
  async replaceTrack(kind, track) {
    if (await this.#sources.replace(kind, track)) await this.#offer();
  }

  /** Show a screen beside the camera. */
  async shareScreen(stream) {
    const wanted = this.#sources.show(stream);
    stream.getVideoTracks()[0].addEventListener("ended", () => this.stopScreen());
    if (wanted) await this.#offer();
  }

  async stopScreen() {
    if (await this.#sources.hide()) await this.#offer();
  }

  get peerConnection() {
    return this.#peer;
  }

  /** The last measurement: rtt (ms), loss (0..1), fps, bitrates, and per-kind received counters. */
  get stats() {
    return this.#lastStats;
  }

  // -- connecting ----------------------------------------------------------------------------------------------------

  async #join() {
    this.#drop();
    this.#joined = false;
    this.#began = performance.now();
    this.#enter(this.state === "new" ? "connecting" : "reconnecting");
    const peer = new RTCPeerConnection({
      iceServers: this.#iceServers,
      iceTransportPolicy: this.#policy,
      bundlePolicy: "max-bundle",
    });
    this.#peer = peer;
    this.#assigned = [];
    if (this.#uplink.held) this.dispatchEvent(new CustomEvent("uplink", { detail: { held: false } }));
    this.#uplink = new Uplink();
    peer.addEventListener("connectionstatechange", () => peer === this.#peer && this.#connectionChanged());
    peer.addEventListener("iceconnectionstatechange", () => peer === this.#peer && this.#connectionChanged());
    this.#sources.open(peer);
    this.#sources.expect("audio", this.#spares);
    this.#sources.expect("video", this.#spares);
    this.#timers.after("connect", CONNECT_TIMEOUT_MS, () => this.#rejoin("timeout"));
    await this.#offer("join");
  }

  /** Layers that nobody receives, and sound that nobody's way carries, cost the uplink nothing. */
  async #ordered(message) {
    if (!this.#joined || message.connection !== this.#connection) return;
    await this.#sources.order(message, (error) => this.#problem("layers", error));
  }

  /** Offer; while an answer is awaited, remember to offer again. */
  async #offer(type = "offer") {
    if (!this.#peer) return;
    if (this.#pending) {
      this.#again = true;
      return;
    }
    const peer = this.#peer;
    const number = (this.#number += 1);
    this.#pending = { number, type };
    try {
      if (this.#restartWanted && type === "offer") peer.restartIce();
      this.#restartWanted = false;
      // Candidates are not awaited: the server's address is in its answer, and it answers wherever we come from.
      await peer.setLocalDescription(await peer.createOffer());
      if (peer !== this.#peer) return;
      this.#timers.after("answer", ANSWER_TIMEOUT_MS, () => this.#rejoin("answer-timeout"));
      const key = type === "join" && this.#seal ? { key: this.#seal.publicKey } : {};
      this.#tell({ type, number, sdp: peer.localDescription.sdp, sources: this.#sources.byMid(), ...key });
    } catch (error) {
      this.#problem("offer", error);
      this.#rejoin("offer");
    }
  }

  async #answered(message) {
    const peer = this.#peer;
    if (!peer || !this.#pending || message.number !== this.#pending.number) return;
    this.#timers.stop("answer");
    try {
      await peer.setRemoteDescription({ type: "answer", sdp: message.sdp });
    } catch (error) {
      this.#problem("answer", error);
      this.#rejoin("answer");
      return;
    }
    if (peer !== this.#peer) return;
    await this.#sources.scale((error) => this.#problem("layers", error));
    if (peer !== this.#peer) return;
    this.#pending = null;
    this.#joined = true;
    if (message.connection !== this.#connection) {
      this.#connection = message.connection;
      this.#revision = -1;
    }
    this.#announced(message);
    const early = this.#early;
    this.#early = null;
    if (early) this.#announced(early);
    if (this.#again) {
      this.#again = false;
      await this.#offer();
    }
  }

  #refused(message) {
    if (this.#pending && message.number !== undefined && message.number !== this.#pending.number) return;
    this.#problem(message.code);
    if (message.code === "closed" || message.code === "forbidden") {
      this.close();
      return;
    }
    this.#rejoin(message.code);
  }

  // -- what others send ----------------------------------------------------------------------------------------------

  /** Answers and announcements come on different ways: an older word must not undo a newer one, nor another connection's ours. */
  #announced(message) {
    if (!this.#joined) {
      this.#early = message;
      return;
    }
    if (message.connection !== this.#connection || message.revision < this.#revision) return;
    this.#revision = message.revision;
    this.#assign(message.tracks, message.wanted);
  }

  #assign(tracks = [], wanted = {}) {
    if (!this.#peer) return;
    this.#assigned = tracks;
    this.#arrange();
    const audio = wanted.audio ?? 0;
    const video = wanted.video ?? 0;
    if ((audio || video || wanted.codec) && !this.#pending) {
      this.#sources.expect("audio", audio);
      this.#sources.expect("video", video);
      this.#offer();
    }
  }

  #arrange() {
    const transceivers = this.#peer.getTransceivers();
    const whose = new Map(this.#assigned.map((one) => [one.mid, one.participant]));
    this.#seal?.assign(transceivers.map((one) => [one.receiver, whose.get(one.mid) ?? null]));
    this.participants = byPerson(transceivers, this.#assigned, this.participants);
    this.dispatchEvent(new CustomEvent("remote", { detail: this.participants }));
  }

  // -- staying connected ---------------------------------------------------------------------------------------------

  #connectionChanged() {
    const peer = this.#peer;
    if (peer.connectionState === "connected" && !["disconnected", "failed"].includes(peer.iceConnectionState)) {
      this.#timers.stop("connect", "disconnected", "restart");
      this.#attempts = 0;
      this.#enter("connected");
    } else if (peer.connectionState === "failed" || peer.iceConnectionState === "failed") {
      this.#restart("failed");
    } else if (peer.iceConnectionState === "disconnected") {
      this.#enter("reconnecting");
      if (!this.#timers.has("disconnected")) this.#timers.after("disconnected", DISCONNECTED_MS, () => this.#restart("disconnected"));
    } else if (peer.connectionState === "closed") {
      this.#rejoin("closed");
    }
  }

  #networkChanged() {
    if (this.#joined && this.state !== "closed") this.#restart("network");
  }

  /** A new path under the same encryption; when that fails, a new connection. */
  #restart(reason) {
    if (!this.#joined) return;
    this.dispatchEvent(new CustomEvent("restart", { detail: { reason } }));
    if (this.#peer.connectionState !== "connected") this.#enter("reconnecting");
    if (!this.#timers.has("restart")) {
      this.#timers.after("restart", RESTART_TIMEOUT_MS, () => {
        if (this.#peer?.connectionState !== "connected") this.#rejoin("restart-timeout");
      });
    }
    this.#restartWanted = true;
    this.#offer();
  }

  #rejoin(reason, now = false) {
    if (this.state === "closed" || this.state === "new") return;
    this.#drop();
    this.#enter("reconnecting");
    if (now) this.#attempts = 0;
    // An attempt that was made for seconds has waited already: while a line is cut, somebody is always knocking.
    const tried = reason === "timeout" ? performance.now() - this.#began : 0;
    const wait = Math.max(0, REJOIN_MS[Math.min(this.#attempts, REJOIN_MS.length - 1)] - tried);
    this.#attempts += 1;
    this.dispatchEvent(new CustomEvent("rejoin", { detail: { reason, wait } }));
    this.#timers.after("rejoin", wait, () => this.#join());
  }

  #drop() {
    this.#timers.stop("connect", "answer", "disconnected", "restart", "rejoin", "doubt");
    this.#pending = null;
    this.#again = false;
    this.#restartWanted = false;
    this.#joined = false;
    this.#early = null;
    const peer = this.#peer;
    this.#peer = null;
    this.#sources.close();
    peer?.close();
  }

  // -- quality -------------------------------------------------------------------------------------------------------

  #judged(message) {
    if (message.state !== this.quality) {
      this.quality = message.state;
      this.dispatchEvent(new CustomEvent("quality", { detail: message }));
    }
  }

  async #measure() {
    const peer = this.#peer;
    if (!peer || peer.connectionState === "closed") return;
    const stats = await figures(peer, this.#lastStats);
    if (peer !== this.#peer) return;
    this.#lastStats = stats;
    // The browser would believe in a dead way for half a minute; one that only stumbled stays in use beside the new one.
    if (this.#joined && this.#silence.look(stats.way, stats.at)) this.#restart("silence");
    if (this.#silence.doubtful) this.#timers.after("doubt", DOUBT_MS, () => this.#measure());
    if (this.#joined && this.#uplink.look(this.#sources.pictures ? stats.room : null, stats.at)) {
      const { held } = this.#uplink;
      await this.#sources.hold(held, (error) => this.#problem("layers", error));
      this.dispatchEvent(new CustomEvent("uplink", { detail: { held } }));
    }
    this.dispatchEvent(new CustomEvent("stats", { detail: stats }));
  }

  // -- small things --------------------------------------------------------------------------------------------------

  #tell(message) {
    try {
      this.#send(message);
    } catch (error) {
      this.#problem("send", error);
    }
  }

  #enter(state) {
    if (state === this.state) return;
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: { state } }));
  }

  #problem(code, error = null) {
    this.dispatchEvent(new CustomEvent("problem", { detail: { code, error } }));
  }
}
