// What a peer connection says of itself, in one round: round trip, loss, bitrates, and what was received of each kind; and what is too little for a call.

// Below this the picture stops at times (kbit/s); above that loss (0..1) words are missed.
const NARROW_KBIT = 150;
const LOSSY = 0.05;

/** `before` is the last measurement: rates and loss are reckoned from there. */
export async function figures(peer, before) {
  const report = await peer.getStats();
  const stats = { at: performance.now(), rtt: null, relayed: false, protocol: null, sent: 0, received: 0, lost: 0, packets: 0, frames: 0, fps: 0, freezes: 0, samples: 0, width: 0, path: null, room: null };
  let pair = null;
  const byId = new Map();
  report.forEach((one) => byId.set(one.id, one));
  for (const one of byId.values()) {
    if (one.type === "inbound-rtp") {
      stats.lost += one.packetsLost ?? 0;
      stats.packets += one.packetsReceived ?? 0;
      stats.received += one.bytesReceived ?? 0;
      if (one.kind === "video") {
        stats.frames += one.framesDecoded ?? 0;
        stats.fps = Math.max(stats.fps, one.framesPerSecond ?? 0);
        stats.freezes += one.freezeCount ?? 0;
        stats.width = Math.max(stats.width, one.frameWidth ?? 0);
      } else stats.samples += one.totalSamplesReceived ?? 0;
    } else if (one.type === "outbound-rtp") stats.sent += one.bytesSent ?? 0;
    else if (one.type === "transport" && one.selectedCandidatePairId) pair = byId.get(one.selectedCandidatePairId);
    else if (one.type === "candidate-pair" && one.selected) pair = one;
  }
  if (pair) {
    // What went over the way itself: pictures, sound and what is told about them, but no checks of the way.
    stats.way = { id: pair.id, sent: pair.bytesSent ?? 0, received: pair.bytesReceived ?? 0 };
    // What the way would carry, as the browser reckons it; Firefox does not say.
    stats.room = pair.availableOutgoingBitrate ?? null;
    stats.rtt = pair.currentRoundTripTime === undefined ? null : pair.currentRoundTripTime * 1000;
    const local = byId.get(pair.localCandidateId);
    stats.relayed = local?.candidateType === "relay";
    stats.protocol = local?.relayProtocol ?? local?.protocol ?? null;
  }
  if (before && stats.at > before.at && stats.received >= before.received) {
    const seconds = (stats.at - before.at) / 1000;
    stats.receivedBitrate = Math.round(((stats.received - before.received) * 8) / seconds);
    stats.sentBitrate = Math.round((Math.max(0, stats.sent - before.sent) * 8) / seconds);
    const lost = Math.max(0, stats.lost - before.lost);
    stats.loss = lost / Math.max(1, lost + stats.packets - before.packets);
  }
  return stats;
}

/**
 * Whether what `roundTrip` found is too little, with a camera (`picture`) or without. A camera that shows little, in the dark or
 * behind its lid, sends little on any way: what the way would carry is asked first.
 */
export function weak(trip, picture) {
  if (trip.loss > LOSSY) return true;
  return picture && (!trip.video || (trip.room ?? trip.kbit) < NARROW_KBIT);
}
