// What this page sends into a call, and the sections it keeps free for what others send: the transceivers of one peer connection
// after another. It negotiates nothing: whoever changes something here is told whether an offer has to follow.

import { describeLayers, layersOf, limit, scale, sendOnly } from "./layers.js";

// Speech in wideband, as RFC 7587 recommends it, in bits per second.
const NARROW_SOUND = 20000;

export class Sources {
  #stream;
  #screen = null;
  #simulcast;
  #maxBitrate;
  #scalability;
  #seal;
  #peer = null;
  /** The layers that the server asked for last, by mid; what it allows the microphone; and whether only the sound is sent. */
  #layers = {};
  #bitrate = 0;
  #held = false;
  /** Transceiver → "microphone", "camera" or "screen". */
  #sent = new Map();

  constructor({ stream, simulcast, maxBitrate, scalability, seal }) {
    this.#stream = stream;
    this.#simulcast = simulcast;
    this.#maxBitrate = maxBitrate;
    // Layers inside of one stream ("L3T3_KEY"), for codecs that have them; others leave it aside.
    this.#scalability = scalability;
    /** Encrypts end to end (`sealing.js`); without it what is sent is encrypted as far as the server. */
    this.#seal = seal;
  }

  /** Everything that is sent goes over this connection from now on. */
  open(peer) {
    this.#peer = peer;
    this.#sent = new Map();
    this.#layers = {};
    this.#bitrate = 0;
    this.#held = false;
    for (const track of this.#stream?.getTracks() ?? []) this.#publish(track, track.kind === "audio" ? "microphone" : "camera");
    for (const track of this.#screen?.getVideoTracks() ?? []) this.#publish(track, "screen");
  }

  /** Nothing is sent until another connection is opened; what is to be sent is remembered. */
  close() {
    this.#peer = null;
  }

  /** Another camera or microphone, or none for a while (null). Whether it has to be offered. */
  async replace(kind, track) {
    const source = kind === "audio" ? "microphone" : "camera";
    const entry = [...this.#sent].find(([, one]) => one === source);
    if (this.#stream) {
      for (const old of this.#stream.getTracks().filter((one) => one.kind === kind && one !== track)) {
        this.#stream.removeTrack(old);
      }
      if (track && !this.#stream.getTracks().includes(track)) this.#stream.addTrack(track);
    } else if (track) {
      this.#stream = new MediaStream([track]);
    }
    if (entry) await entry[0].sender.replaceTrack(track);
    else if (track && this.#peer) {
      this.#publish(track, source);
      return true;
    }
    return false;
  }

  /** A screen beside the camera. Whether it has to be offered. */
  show(screen) {
    this.#screen = screen;
    const [track] = screen.getVideoTracks();
    track.contentHint = "detail";
    if (this.#peer) this.#publish(track, "screen");
    return Boolean(this.#peer);
  }

  /** No screen any more. Whether that has to be offered. */
  async hide() {
    const screen = this.#screen;
    this.#screen = null;
    if (!screen) return false;
    for (const track of screen.getTracks()) track.stop();
    for (const [transceiver, source] of this.#sent) {
      if (source === "screen") {
        this.#sent.delete(transceiver);
        await transceiver.sender.replaceTrack(null);
        transceiver.direction = "inactive";
      }
    }
    return Boolean(this.#peer);
  }

  /** Sections into which the server puts what others send. */
  expect(kind, count) {
    for (let i = 0; i < count; i += 1) {
      const transceiver = this.#peer.addTransceiver(kind, { direction: "recvonly" });
      this.#protect(transceiver, kind);
      this.#seal?.incoming(transceiver.receiver, kind);
      if (kind === "video") describeLayers(transceiver);
    }
  }

  /** Which section carries what, by mid, as an offer tells it. */
  byMid() {
    const named = {};
    for (const [transceiver, source] of this.#sent) if (transceiver.mid) named[transceiver.mid] = source;
    return named;
  }

  /** Which layers by mid somebody receives, or what the microphone may take in bits per second (0: what it likes). */
  async order({ layers = {}, bitrate = this.#bitrate }, onError) {
    Object.assign(this.#layers, layers);
    this.#bitrate = bitrate;
    await this.#obey(onError);
  }

  /** Whether there is a picture to hold back. */
  get pictures() {
    return [...this.#sent].some(([{ sender }, source]) => source !== "microphone" && sender.track);
  }

  /** Only the sound, and little of it, until it is let go. */
  async hold(held, onError) {
    this.#held = held;
    await this.#obey(onError);
  }

  async #obey(onError) {
    for (const [transceiver, source] of this.#sent) {
      if (source === "microphone") await limit(transceiver, this.#held ? NARROW_SOUND : this.#bitrate, onError);
      else await sendOnly(transceiver, this.#held ? [] : this.#layers[transceiver.mid] ?? null, onError);
    }
  }

  /** Once it is negotiated with which codec. */
  async scale(onError) {
    if (!this.#scalability) return;
    const cameras = [...this.#sent].filter(([, source]) => source === "camera").map(([transceiver]) => transceiver);
    await scale(cameras, this.#scalability, onError);
  }

  #publish(track, source) {
    const layers = source === "camera" && this.#simulcast ? layersOf(track) : null;
    const encodings = layers ?? (track.kind === "video" ? [{ maxBitrate: this.#maxBitrate }] : [{}]);
    const transceiver = this.#peer.addTransceiver(track, {
      direction: "sendonly",
      streams: source === "screen" ? [this.#screen] : [this.#stream],
      sendEncodings: encodings,
    });
    this.#protect(transceiver, track.kind);
    this.#seal?.outgoing(transceiver.sender, track.kind);
    if (track.kind === "video") describeLayers(transceiver);
    this.#sent.set(transceiver, source);
  }

  /** The encryption leaves readable what the server must read of these codecs, and knows no others. */
  #protect(transceiver, kind) {
    if (!this.#seal) return;
    const wanted = kind === "audio" ? /^audio\/opus$/i : /^video\/(vp8|rtx)$/i;
    transceiver.setCodecPreferences(RTCRtpReceiver.getCapabilities(kind).codecs.filter((one) => wanted.test(one.mimeType)));
  }
}
