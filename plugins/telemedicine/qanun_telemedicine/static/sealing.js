// End-to-end encryption of a call: which keys are whose. The frames themselves are `sealing-worker.js`'s.
//
// Every page makes a key pair that lives as long as the page. A sender's key is sealed for each of the others by what the
// two pairs agree on (ECDH, P-256), and made anew whenever somebody comes or leaves: who comes cannot read what was before,
// who left not what comes after. The server hands on public keys and sealed keys. That it handed on the true ones is what
// the safety code is for: it is reckoned from all public keys, and people read it to each other.

/** How long everybody has to receive a new key before it is used. */
const HAND_OVER_MS = 700;
const AGAIN_MS = 1000;
/** So many digits, and so much work for each try, that a pair of false keys with the same code is not found during a call. */
const DIGITS = 20n;
const ROUNDS = 200_000;
const PAIR = { name: "ECDH", namedCurve: "P-256" };

/** Whether this browser can. */
export const canSeal = () => Boolean(globalThis.RTCRtpScriptTransform && globalThis.crypto?.subtle && globalThis.Worker);

const utf8 = (text) => new TextEncoder().encode(text);
const toText = (octets) => btoa(String.fromCharCode(...new Uint8Array(octets)));
const toOctets = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/** The frames' side: one worker for all that this page sends and receives. */
class Frames extends EventTarget {
  #receivers = new Map();

  constructor() {
    super();
    this.worker = new Worker(new URL("./sealing-worker.js", import.meta.url), { type: "module" });
    this.worker.addEventListener("message", (event) => this.dispatchEvent(new CustomEvent("first", { detail: event.data })));
  }

  outgoing(sender, kind) {
    sender.transform = new RTCRtpScriptTransform(this.worker, { way: "out", kind });
  }

  incoming(receiver, kind) {
    const id = crypto.randomUUID();
    this.#receivers.set(receiver, id);
    receiver.transform = new RTCRtpScriptTransform(this.worker, { way: "in", kind, id });
  }

  /** [receiver, participant or null] of every section: whose frames the server says come there. */
  assign(pairs) {
    const receivers = pairs.map(([receiver, participant]) => [this.#receivers.get(receiver), participant]).filter(([id]) => id);
    this.worker.postMessage({ do: "assign", receivers });
  }

  close() {
    this.worker.terminate();
  }
}

/** The device check of an encrypted call: what comes back to the page that sent it, nobody else reads either. */
export class Echo extends Frames {
  publicKey = "";

  constructor() {
    super();
    const raw = crypto.getRandomValues(new Uint8Array(32));
    this.worker.postMessage({ do: "send", id: 1, raw });
    this.worker.postMessage({ do: "receive", participant: "self", id: 1, raw });
  }

  assign(pairs) {
    super.assign(pairs.map(([receiver, participant]) => [receiver, participant && "self"]));
  }
}

/** Events: "code" (the safety code changed; `code` is empty while nobody else is there), "first" (a frame passed). */
export class Sealing extends Frames {
  #send;
  #call;
  #me = "";
  #pair = null;
  #people = new Map();
  #sealed = new Map();
  #roster = "";
  #turn = 0;
  #begun = false;
  #queue = Promise.resolve();

  /** `call` names the call, so that no key of one is of use in another. */
  constructor({ send, call }) {
    super();
    this.#send = send;
    this.#call = call;
    this.publicKey = "";
    this.code = "";
  }

  async start() {
    this.#pair = await crypto.subtle.generateKey(PAIR, false, ["deriveBits"]);
    this.publicKey = toText(await crypto.subtle.exportKey("raw", this.#pair.publicKey));
    return this;
  }

  close() {
    super.close();
    this.#turn += 1;
  }

  /** Who is in the call, with their public keys, and the keys that were sealed for this page. */
  heard({ me, people, keys }) {
    this.#queue = this.#queue.then(() => this.#take(me, people, keys)).catch(() => {});
    return this.#queue;
  }

  /** What was sent last may not have arrived. */
  again() {
    this.#roster = "";
    setTimeout(() => {
      this.#queue = this.#queue.then(() => this.#settle()).catch(() => {});
    }, AGAIN_MS);
  }

  async #take(me, people, keys) {
    this.#me = me;
    const now = new Map(people.filter((one) => one.key && one.id !== me).map((one) => [one.id, one.key]));
    for (const [id, key] of this.#people) {
      if (now.get(id) === key) continue;
      this.#sealed.delete(id);
      this.worker.postMessage({ do: "forget", participant: id });
    }
    this.#people = now;
    for (const { from, sealed } of keys) await this.#unseal(from, sealed);
    // Whoever is not in the call, by the server's word, cannot give keys to anybody yet.
    if (people.some((one) => one.id === me && one.key === this.publicKey)) await this.#settle();
  }

  /** A new key of one's own when others are here than before. */
  async #settle() {
    const roster = [...this.#people].map((one) => one.join(" ")).sort().join("\n");
    if (this.#begun && roster === this.#roster) return;
    this.#roster = roster;
    const turn = (this.#turn += 1);
    const raw = crypto.getRandomValues(new Uint8Array(32));
    const [id] = crypto.getRandomValues(new Uint32Array(1));
    const message = new Uint8Array(36);
    new DataView(message.buffer).setUint32(0, id);
    message.set(raw, 4);
    const sealed = {};
    for (const [other, key] of this.#people) {
      try {
        const iv = crypto.getRandomValues(new Uint8Array(12));
        const pair = await this.#between(key, this.publicKey, key);
        const options = { name: "AES-GCM", iv, additionalData: utf8(`${this.#me} ${other}`) };
        sealed[other] = `${toText(iv)} ${toText(await crypto.subtle.encrypt(options, pair, message))}`;
      } catch {
        // No point of the curve: they get no key, and their safety code shows that something is wrong.
      }
    }
    this.#send({ type: "keys", sealed });
    const use = () => turn === this.#turn && this.worker.postMessage({ do: "send", id, raw });
    if (this.#begun) setTimeout(use, HAND_OVER_MS);
    else use();
    this.#begun = true;
    await this.#reckon();
  }

  async #unseal(from, sealed) {
    const key = this.#people.get(from);
    if (!key || this.#sealed.get(from) === sealed) return;
    try {
      const [iv, text] = sealed.split(" ").map(toOctets);
      const pair = await this.#between(key, key, this.publicKey);
      const options = { name: "AES-GCM", iv, additionalData: utf8(`${from} ${this.#me}`) };
      const message = new Uint8Array(await crypto.subtle.decrypt(options, pair, text));
      this.worker.postMessage({ do: "receive", participant: from, id: new DataView(message.buffer).getUint32(0), raw: message.slice(4) });
      this.#sealed.set(from, sealed);
    } catch {
      // Sealed for a page that this person had before; the next one is for this one.
    }
  }

  /** What the two pairs agree on, for the way from one to the other. */
  async #between(other, from, to) {
    const point = await crypto.subtle.importKey("raw", toOctets(other), PAIR, false, []);
    const bits = await crypto.subtle.deriveBits({ name: "ECDH", public: point }, this.#pair.privateKey, 256);
    const base = await crypto.subtle.importKey("raw", bits, "HKDF", false, ["deriveKey"]);
    const use = { name: "HKDF", hash: "SHA-256", salt: utf8(this.#call), info: utf8(`qanun sender key ${from} ${to}`) };
    return crypto.subtle.deriveKey(use, base, { name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"]);
  }

  async #reckon() {
    const keys = [...this.#people, [this.#me, this.publicKey]].map((one) => one.join(" ")).sort();
    let code = "";
    if (this.#people.size) {
      const base = await crypto.subtle.importKey("raw", utf8(keys.join("\n")), "PBKDF2", false, ["deriveBits"]);
      const how = { name: "PBKDF2", hash: "SHA-256", salt: utf8(`qanun safety code ${this.#call}`), iterations: ROUNDS };
      const octets = new Uint8Array(await crypto.subtle.deriveBits(how, base, 128));
      const number = octets.reduce((sum, octet) => (sum << 8n) | BigInt(octet), 0n) % 10n ** DIGITS;
      code = String(number).padStart(Number(DIGITS), "0").match(/.{4}/g).join(" ");
    }
    if (code === this.code) return;
    this.code = code;
    this.dispatchEvent(new CustomEvent("code", { detail: { code } }));
  }
}
