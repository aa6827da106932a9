// Whether the way out carries this page's own picture. A browser never gives a picture up for the sound, however narrow the way is:
// both wait in the same queue, and nobody is understood.

// As low as a browser's estimate goes, with the least picture that it sends and the sound (bits per second): there it stays,
// however little comes through.
const NARROW = 90000;
// The estimate of a call that has just begun, or of a way that stumbled, is no judgement (looks in a row, about a second each).
const CERTAIN = 5;
// The picture is tried again after this, and each time later when it was too much again soon.
const FIRST_MS = 10000;
const LONGEST_MS = 120000;

export class Uplink {
  /** The picture is held back; the sound is kept small. */
  held = false;
  #narrow = 0;
  #wait = FIRST_MS;
  #until = 0;

  /** `room`: what the way out would carry as the browser reckons it, null where it does not say. True when `held` changed. */
  look(room, at) {
    if (this.held) {
      if (at < this.#until) return false;
      this.held = false;
      this.#narrow = 0;
      return true;
    }
    this.#narrow = room !== null && room < NARROW ? this.#narrow + 1 : 0;
    if (this.#narrow < CERTAIN) return false;
    const soon = at - this.#until < LONGEST_MS && this.#until > 0;
    this.#wait = soon ? Math.min(LONGEST_MS, 2 * this.#wait) : FIRST_MS;
    this.#until = at + this.#wait;
    this.held = true;
    return true;
  }
}
