// What comes in, sorted by whose it is: one stream of each person, and one of each screen that is shown.

/**
 * `assigned` says whose each section is ({mid, participant, source}), `before` what this gave last: a stream that goes on stays the
 * same object, so that pages do not start it anew. Participant id → { camera: MediaStream, screen: MediaStream | null, tracks }.
 */
export function byPerson(transceivers, assigned, before) {
  const byMid = new Map(transceivers.map((one) => [one.mid, one.receiver.track]));
  const participants = new Map();
  for (const { mid, participant, source } of assigned) {
    const track = byMid.get(mid);
    if (!track) continue;
    const known = before.get(participant);
    const entry = participants.get(participant) ?? { camera: known?.camera ?? new MediaStream(), screen: null, tracks: new Set() };
    if (source === "screen") entry.screen = known?.screen ?? new MediaStream();
    participants.set(participant, entry);
    const stream = source === "screen" ? entry.screen : entry.camera;
    if (!stream.getTracks().includes(track)) stream.addTrack(track);
    entry.tracks.add(track);
  }
  for (const entry of participants.values()) {
    for (const stream of [entry.camera, entry.screen]) {
      for (const track of stream?.getTracks() ?? []) if (!entry.tracks.has(track)) stream.removeTrack(track);
    }
  }
  return participants;
}
