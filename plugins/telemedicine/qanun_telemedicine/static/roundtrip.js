// A real round trip of this device's sound and picture: through the clinic's media server and back to this page, as a call
// would go. Nobody else is in it, nothing is kept.

import { MediaSession } from "./media.js";
import { Echo } from "./sealing.js";

const CONNECT_MS = 12_000;
const MEASURE_MS = 4_000;
const LOOK_MS = 500;

/**
 * Resolves to { ok, audio, video, rtt (ms), loss (0..1), kbit (per second, what came back), room (kbit per second that the way out
 * would carry, null where the browser does not say), relayed } or { ok: false, reason }.
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
    const out = open("out", stream);
    if (!(await until(() => out.state === "connected", CONNECT_MS))) return { ok: false, reason: signal?.aborted ? "stopped" : "blocked" };
    const back = open("back", null);
    const first = await until(() => back.stats?.packets > 5 && { ...back.stats }, CONNECT_MS);
    if (!first) return { ok: false, reason: signal?.aborted ? "stopped" : "blocked" };
    await until(() => false, MEASURE_MS);
    if (signal?.aborted) return { ok: false, reason: "stopped" };
    const last = back.stats;
    const seconds = Math.max(0.5, (last.at - first.at) / 1000);
    const lost = Math.max(0, last.lost - first.lost);
    return {
      ok: true,
      audio: Boolean(stream.getAudioTracks().length),
      video: last.frames > first.frames,
      rtt: Math.round(out.stats?.rtt ?? last.rtt ?? 0),
      loss: lost / Math.max(1, lost + last.packets - first.packets),
      kbit: Math.round(((last.received - first.received) * 8) / seconds / 1000),
      room: out.stats?.room ? Math.round(out.stats.room / 1000) : null,
      relayed: Boolean(out.stats?.relayed || last.relayed),
    };
  } finally {
    for (const session of sessions.values()) session.close();
    seal?.close();
    line.send({ type: "check", seat: "out", step: "leave" });
    line.removeEventListener("message", hear);
  }
}
