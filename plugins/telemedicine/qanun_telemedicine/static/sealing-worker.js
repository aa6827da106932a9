// Encrypts and decrypts the frames of a call beside the page: AES-GCM under a key per sender, in the manner of SFrame (RFC
// 9605). What the media server must read to choose layers and ask for key frames stays readable, and is authenticated.
//
//     [readable head][ciphertext and tag][counter, 6 octets][key id, 4 octets]
//
// A frame that cannot be encrypted is not sent, and one that cannot be decrypted is not shown: nothing passes in the clear.

const COUNTER = 6;
const TRAILER = COUNTER + 4;
const TAG = 16;
/** Frames may come in another order than they were sent; older than this they are taken for repeated. */
const WINDOW = 512;
const KEPT_KEYS = 3;

let mine = null;
/** Participant → (key id → key): the newest last. */
const theirs = new Map();
/** Receiver → { participant, transformer, waiting }. */
const receivers = new Map();

async function derived(raw) {
  const base = await crypto.subtle.importKey("raw", raw, "HKDF", false, ["deriveKey", "deriveBits"]);
  const use = (name) => ({ name: "HKDF", hash: "SHA-256", salt: new Uint8Array(32), info: new TextEncoder().encode(`qanun frame ${name}`) });
  return {
    key: await crypto.subtle.deriveKey(use("key"), base, { name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"]),
    salt: new Uint8Array(await crypto.subtle.deriveBits(use("salt"), base, 96)),
    // What was received under it, for what is repeated.
    audio: { newest: -1, counters: new Set() },
    video: { newest: -1, counters: new Set() },
  };
}

/** Opus: its first octet. VP8: the frame tag, and of a key frame the start code and the size. */
function readable(kind, data) {
  const size = kind === "audio" ? 1 : data[0] & 1 ? 3 : 10;
  return Math.min(size, data.length);
}

function nonce(salt, counter) {
  const made = salt.slice();
  for (let at = 0; at < COUNTER; at += 1) made[11 - at] ^= Math.floor(counter / 256 ** at) & 255;
  return made;
}

/** Sound cannot be passed off as a picture, nor a head be exchanged. */
function bound(kind, head) {
  const made = new Uint8Array(head.length + 1);
  made[0] = kind === "audio" ? 1 : 2;
  made.set(head, 1);
  return made;
}

async function seal(frame, kind) {
  const own = mine;
  const plain = new Uint8Array(frame.data);
  if (!own || !plain.length) return false;
  const counter = own.counter;
  own.counter += 1;
  const clear = readable(kind, plain);
  const head = plain.subarray(0, clear);
  const options = { name: "AES-GCM", iv: nonce(own.salt, counter), additionalData: bound(kind, head) };
  const sealed = new Uint8Array(await crypto.subtle.encrypt(options, own.key, plain.subarray(clear)));
  const out = new Uint8Array(clear + sealed.length + TRAILER);
  out.set(head);
  out.set(sealed, clear);
  const view = new DataView(out.buffer);
  view.setUint16(out.length - TRAILER, Math.floor(counter / 2 ** 32));
  view.setUint32(out.length - TRAILER + 2, counter % 2 ** 32);
  view.setUint32(out.length - 4, own.id);
  frame.data = out.buffer;
  return true;
}

async function open(frame, kind, seat) {
  const data = new Uint8Array(frame.data);
  const clear = readable(kind, data);
  if (data.length < clear + TAG + TRAILER) return false;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const counter = view.getUint16(data.length - TRAILER) * 2 ** 32 + view.getUint32(data.length - TRAILER + 2);
  const id = view.getUint32(data.length - 4);
  // Under the name of whom the server says that it is: another's frames do not open.
  const key = theirs.get(seat.participant)?.get(id);
  if (!key || seen(key[kind], counter, false)) return false;
  const options = { name: "AES-GCM", iv: nonce(key.salt, counter), additionalData: bound(kind, data.subarray(0, clear)) };
  let plain;
  try {
    plain = await crypto.subtle.decrypt(options, key.key, data.subarray(clear, data.length - TRAILER));
  } catch {
    return false;
  }
  seen(key[kind], counter, true);
  const out = new Uint8Array(clear + plain.byteLength);
  out.set(data.subarray(0, clear));
  out.set(new Uint8Array(plain), clear);
  frame.data = out.buffer;
  return true;
}

/** Whether this frame came before, in whichever section; `note` remembers it, once it proved genuine. */
function seen(window, counter, note) {
  if (counter <= window.newest - WINDOW || window.counters.has(counter)) return true;
  if (note) {
    window.counters.add(counter);
    window.newest = Math.max(window.newest, counter);
    if (window.counters.size > 2 * WINDOW) for (const one of window.counters) if (one <= window.newest - WINDOW) window.counters.delete(one);
  }
  return false;
}

addEventListener("rtctransform", ({ transformer }) => {
  const { way, kind, id } = transformer.options;
  const seat = { participant: null, transformer, kind, waiting: false, ...receivers.get(id) };
  if (way === "in") {
    receivers.set(id, seat);
    seat.transformer = transformer;
    seat.kind = kind;
  }
  let count = 0;
  const work = new TransformStream({
    async transform(frame, controller) {
      const done = way === "out" ? await seal(frame, kind) : await open(frame, kind, seat);
      if (done) controller.enqueue(frame);
      seat.waiting = !done;
      if (done && (count += 1) === 1) postMessage({ first: way, kind, participant: seat.participant });
    },
  });
  transformer.readable.pipeThrough(work).pipeTo(transformer.writable).catch(() => {});
});

/** A picture that could not be read begins anew. */
function askAgain(participant) {
  for (const seat of receivers.values()) {
    if (seat.participant === participant && seat.kind === "video" && seat.waiting) seat.transformer?.sendKeyFrameRequest?.()?.catch?.(() => {});
  }
}

addEventListener("message", async ({ data }) => {
  switch (data.do) {
    case "send":
      mine = { id: data.id, counter: 0, ...(await derived(data.raw)) };
      break;
    case "receive": {
      const known = theirs.get(data.participant) ?? new Map();
      known.set(data.id, await derived(data.raw));
      for (const old of [...known.keys()].slice(0, -KEPT_KEYS)) known.delete(old);
      theirs.set(data.participant, known);
      askAgain(data.participant);
      break;
    }
    case "forget":
      theirs.delete(data.participant);
      break;
    case "assign":
      for (const [id, participant] of data.receivers) {
        const seat = receivers.get(id) ?? { participant: null, kind: null, waiting: false };
        seat.participant = participant;
        receivers.set(id, seat);
      }
      break;
  }
});
