// A real round trip of this device's sound and picture: through the clinic's media server and back to this page, as a call
// would go. Nobody else is in it, nothing is kept.

import { weak } from "./figures.js";
import { MediaSession } from "./media.js";
import { Echo } from "./sealing.js";

const CONNECT_MS = 12_000;
const MEASURE_MS = 4_000;
const SNOW_MS = 4_000;
const LOOK_MS = 500;

/**
 * Resolves to { ok, audio, video, rtt (ms), loss (0..1), kbit (per second, what came back), room (kbit per second that the way out
 * would carry: as the browser reckons it, or tried where it does not say and the camera sent little; null where neither), relayed }
 * or { ok: false, reason }.
 * `signal` (an AbortSignal) ends it early with reason "stopped". `sealed`: as an encrypted call, so that the server reads nothing.
 */
export async function roundTrip({ line, iceServers, stream, policy = "all", signal, sealed = false }) {
  const sessions = new Map();
  const seal = sealed ? new Echo() : null;
  const hear = (event) => {
    const message = event.detail;
    if (message.type === "check") sessions.get(message.seat)?.receive(message.message);
  };
  line.addEventListener("message", hear);
  const open = (seat, media) => {
    const session = new MediaSession({
      // Its own word for leaving is not needed: the check ends as a whole.
      send: ({ type, ...rest }) => type !== "leave" && line.send({ type: "check", seat, step: type, ...rest }),
      iceServers, policy, stream: media, seal,
    });
    sessions.set(seat, session);
    session.start();
    return session;
  };
  const until = (found, wait) => new Promise((resolve) => {
    const began = performance.now();
    const timer = setInterval(() => {
      const value = found();
      if (value || signal?.aborted || performance.now() - began > wait) {
        clearInterval(timer);
        resolve(signal?.aborted ? null : value);
      }
    }, LOOK_MS);
  });
  try {
    // A stream of its own: what the check sends is not what the page shows.
    const out = open("out", new MediaStream(stream.getTracks()));
    if (!(await until(() => out.state === "connected", CONNECT_MS))) return { ok: false, reason: signal?.aborted ? "stopped" : "blocked" };
    const back = open("back", null);
    const first = await until(() => back.stats?.packets > 5 && { ...back.stats }, CONNECT_MS);
    if (!first) return { ok: false, reason: signal?.aborted ? "stopped" : "blocked" };
    await until(() => false, MEASURE_MS);
    if (signal?.aborted) return { ok: false, reason: "stopped" };
    const last = back.stats;
    const found = {
      ok: true,
      audio: Boolean(stream.getAudioTracks().length),
      video: last.frames > first.frames,
      rtt: Math.round(out.stats?.rtt ?? last.rtt ?? 0),
      loss: lost(first, last),
      kbit: kbit(first, last),
      room: out.stats?.room ? Math.round(out.stats.room / 1000) : null,
      relayed: Boolean(out.stats?.relayed || last.relayed),
    };
    // Only where nothing but the little that the camera sent speaks against the way.
    if (found.room === null && weak(found, true) && !weak({ ...found, room: Infinity }, true)) {
      const snowing = snow();
      try {
        await out.replaceTrack("video", snowing.track);
        await until(() => false, SNOW_MS / 2); // the estimate of the way grows at first
        const before = back.stats;
        await until(() => false, SNOW_MS / 2);
        if (signal?.aborted) return { ok: false, reason: "stopped" };
        found.room = Math.max(found.kbit, kbit(before, back.stats));
      } finally {
        snowing.end();
      }
    }
    return found;
  } finally {
    for (const session of sessions.values()) session.close();
    seal?.close();
    line.send({ type: "check", seat: "out", step: "leave" });
    line.removeEventListener("message", hear);
  }
}

/** Kilobits per second that came between two measurements. */
function kbit(first, last) {
  return Math.round(((last.received - first.received) * 8) / Math.max(0.5, (last.at - first.at) / 1000) / 1000);
}

function lost(first, last) {
  const gone = Math.max(0, last.lost - first.lost);
  return gone / Math.max(1, gone + last.packets - first.packets);
}

/** A picture that no encoder makes small: what comes through of it is what the way carries, however dark the room is. */
function snow() {
  const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 240 });
  const brush = canvas.getContext("2d");
  const picture = brush.createImageData(canvas.width, canvas.height);
  const points = new Uint32Array(picture.data.buffer);
  const draw = () => {
    for (let at = 0; at < points.length; at += 1) points[at] = (Math.random() * 2 ** 32) | 0xff000000;
    brush.putImageData(picture, 0, 0);
  };
  draw();
  const timer = setInterval(draw, 100);
  const [track] = canvas.captureStream(10).getVideoTracks();
  return {
    track,
    end() {
      clearInterval(timer);
      track.stop();
    },
  };
}
