// Pictures in several layers: which are offered, what a server needs to tell them apart, and which are sent at this moment.

// The smaller layers are sent once somebody's line needs them: the server says so.
const SIMULCAST = [
  { rid: "q", scaleResolutionDownBy: 4, maxBitrate: 150000, active: false },
  { rid: "h", scaleResolutionDownBy: 2, maxBitrate: 500000, active: false },
  { rid: "f", maxBitrate: 1700000 },
];
// Browsers leave the widest layers out where the picture is too small for so many; then fewer are offered.
const THREE_LAYERS = 960 * 540;
const TWO_LAYERS = 480 * 270;
// What a server needs to tell layers apart in AV1, and a receiver of AV1 to put them together again. Not offered by itself.
const DEPENDENCY = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";
export const describeLayers = (transceiver) => {
  try {
    const extensions = transceiver.getHeaderExtensionsToNegotiate();
    for (const one of extensions) if (one.uri === DEPENDENCY) one.direction = "sendrecv";
    transceiver.setHeaderExtensionsToNegotiate(extensions);
  } catch {
    // A browser that cannot be asked offers what it has.
  }
};
/** The layers in which this camera is offered; null where it is too small for any. */
export const layersOf = (track) => {
  const { width = 0, height = 0 } = track.getSettings();
  const pixels = width * height;
  if (pixels < TWO_LAYERS) return null;
  return pixels < THREE_LAYERS ? SIMULCAST.slice(1) : SIMULCAST;
};

async function set({ sender }, parameters, failed) {
  try {
    await sender.setParameters(parameters);
  } catch (error) {
    failed(error);
  }
}

/** Layers inside of one stream, where the codec has them: which codec it is, is known with the answer. */
export async function scale(transceivers, scalability, failed) {
  for (const transceiver of transceivers) {
    const parameters = transceiver.sender.getParameters();
    const codec = parameters.codecs?.[0]?.mimeType ?? "";
    if (parameters.encodings.length !== 1 || !/(vp9|av1)$/i.test(codec)) continue;
    if (parameters.encodings[0].scalabilityMode === scalability) continue;
    parameters.encodings[0].scalabilityMode = scalability;
    await set(transceiver, parameters, failed);
  }
}

/** What a sender may take in bits per second; 0: what it likes. */
export async function limit(transceiver, bitrate, failed) {
  const parameters = transceiver.sender.getParameters();
  if (!parameters.encodings.length || (parameters.encodings[0].maxBitrate ?? 0) === bitrate) return;
  if (bitrate) parameters.encodings[0].maxBitrate = bitrate;
  else delete parameters.encodings[0].maxBitrate;
  await set(transceiver, parameters, failed);
}

/** Only the layers that somebody receives are sent (`wanted`); null: as it was offered, with the widest alone. */
export async function sendOnly(transceiver, wanted, failed) {
  const parameters = transceiver.sender.getParameters();
  const widest = parameters.encodings.at(-1);
  const active = (one) => (wanted ? wanted.includes(one.rid) : one === widest);
  if (parameters.encodings.every((one) => one.active === active(one))) return;
  for (const one of parameters.encodings) one.active = active(one);
  await set(transceiver, parameters, failed);
}
