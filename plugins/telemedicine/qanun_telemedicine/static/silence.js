// Notices a way over which nothing comes back any more, seconds before a browser does.
//
// The server says several times a second what arrived of what is sent to it. So whoever sends and hears nothing at all has lost
// the way in one direction at least: the cable, the address, the relay. Whoever sends nothing may well hear nothing.

const SILENT_MS = 1500;
// Looked at less often than this, a page slept meanwhile and knows nothing.
const ASLEEP_MS = 3500;

export class Silence {
  #way = { id: null, sent: 0, received: 0 };
  #heard = 0;
  #looked = 0;
  #told = false;
  /** Something was sent since anything was heard: worth another look soon. */
  doubtful = false;

  /** `way` is what `figures` found, at the time `at`. True once for each time that it fell silent. */
  look(way, at) {
    if (!way) return false;
    const before = this.#way;
    const slept = at - this.#looked > ASLEEP_MS;
    this.#looked = at;
    this.#way = way;
    const same = way.id === before.id;
    if (same && way.received !== before.received) this.#told = false;
    this.doubtful = same && !slept && way.received === before.received && way.sent > before.sent && !this.#told;
    if (!this.doubtful) {
      if (!this.#told) this.#heard = at;
      return false;
    }
    this.#told = at - this.#heard >= SILENT_MS;
    this.doubtful = !this.#told;
    return this.#told;
  }
}
