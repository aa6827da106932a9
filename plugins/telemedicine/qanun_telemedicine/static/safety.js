// What people see of end-to-end encryption: that the call has it, the code that they read to each other, and a plain no
// where this browser cannot.
//
//   data-act="safety"  data-safety (the sheet)  data-code  data-act="same | differs"  data-safe (says how sure it is)

import { canSeal, Sealing } from "./sealing.js";

export class Safety {
  #call;
  #seal = null;
  #sealedOnce = false;
  #answered = null;

  constructor(call) {
    this.#call = call;
    call.root.dataset.canSeal = String(canSeal());
    call.addEventListener("state", (event) => this.#heard(event.detail));
    call.addEventListener("welcome", () => this.#seal?.again());
    call.addEventListener("problem", (event) => event.detail.about === "keys" && this.#seal?.again());
  }

  get wanted() {
    return Boolean(this.#call.state?.encryption.on);
  }

  /** The encryption of a call that begins: null for a call without, undefined when this page must stay outside. */
  async begin() {
    if (!this.wanted) {
      if (!this.#sealedOnce) return null;
      // Nobody may take it away behind people's backs, the server least of all.
      this.#call.notice("sealed-no-more");
      return undefined;
    }
    if (!canSeal()) {
      this.#call.notice("cannot-seal");
      return undefined;
    }
    const seal = await new Sealing({ send: (message) => this.#call.line.send(message), call: this.#call.root.dataset.call }).start();
    this.#seal = seal;
    this.#sealedOnce = true;
    seal.addEventListener("code", () => this.#show());
    seal.addEventListener("first", () => {
      this.#call.root.dataset.sealed = "true";
    });
    return seal;
  }

  end() {
    this.#seal?.close();
    this.#seal = null;
    this.#show();
  }

  press(button) {
    switch (button.dataset.act) {
      case "safety":
        this.#open(this.#call.one("[data-safety]").hidden);
        break;
      case "same":
      case "differs":
        this.#answer(button.dataset.act === "same");
        break;
    }
  }

  #heard(state) {
    this.#call.root.dataset.encrypted = String(state.encryption.on);
    this.#seal?.heard({ me: this.#call.me, people: state.people, keys: state.encryption.keys });
    this.#show();
  }

  #answer(same) {
    if (!this.#seal?.code) return;
    this.#answered = { code: this.#seal.code, same };
    this.#call.line.send({ type: "compared", same });
    this.#show();
    if (same) this.#open(false);
  }

  #open(open) {
    const sheet = this.#call.one("[data-safety]");
    if (!sheet) return;
    sheet.hidden = !open;
    for (const button of this.#call.root.querySelectorAll('[data-act="safety"]')) button.setAttribute("aria-expanded", String(open));
    if (open) sheet.querySelector("button")?.focus();
  }

  #show() {
    const code = this.#seal?.code ?? "";
    const answer = this.#answered?.code === code && code ? this.#answered : null;
    const how = answer ? (answer.same ? "safe-same" : "safe-differs") : code ? "safe-open" : "safe-alone";
    for (const mark of this.#call.root.querySelectorAll("[data-safe]")) {
      mark.textContent = this.#call.words[how];
      mark.dataset.safe = how;
    }
    for (const button of this.#call.root.querySelectorAll('[data-act="safety"]')) button.hidden = !(this.wanted && this.#call.running);
    const place = this.#call.one("[data-code]");
    if (place) place.textContent = code;
    for (const button of this.#call.root.querySelectorAll('[data-act="same"], [data-act="differs"]')) button.disabled = !code;
    const sheet = this.#call.one("[data-safety]");
    if (sheet && !this.#seal) sheet.hidden = true;
    if (how === "safe-differs") this.#call.notice("code-differs");
  }
}
