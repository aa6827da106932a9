// Timers with names: a new one of the same name takes the place of the old.

export class Timers {
  #running = new Map();

  after(name, wait, action) {
    this.stop(name);
    const timer = setTimeout(() => {
      this.#running.delete(name);
      action();
    }, wait);
    this.#running.set(name, () => clearTimeout(timer));
  }

  every(name, wait, action) {
    this.stop(name);
    const timer = setInterval(action, wait);
    this.#running.set(name, () => clearInterval(timer));
  }

  has(name) {
    return this.#running.has(name);
  }

  /** Those of these names; without one, all. */
  stop(...names) {
    for (const name of names.length ? names : [...this.#running.keys()]) {
      this.#running.get(name)?.();
      this.#running.delete(name);
    }
  }
}
