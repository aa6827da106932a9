// What is said, as text under the pictures. The clinic offers it, everybody answers for their own words; what is shown is
// gone after a while and kept nowhere.
//
//   data-act="captions" (the clinic's)  data-captions-ask (the question)  data-captions-answer="given | refused"
//   data-captions-mine (one's own answer, to change it)  data-caption (where lines are shown)

import { asks, offers } from "./asking.js";

const SHOWN_MS = 9000;
const MOST = 3;

export class Captions {
  #call;

  constructor(call) {
    this.#call = call;
    call.addEventListener("state", (event) => this.#show(event.detail));
    call.addEventListener("started", () => call.state && this.#show(call.state));
    call.addEventListener("caption", (event) => this.#said(event.detail));
    call.root.addEventListener("click", (event) => {
      const button = event.target.closest('[data-act="captions"], [data-captions-answer], [data-captions-mine]');
      if (button) this.#press(button);
    });
  }

  #press(button) {
    const { line, state } = this.#call;
    if (button.dataset.act) line.send({ type: "captions", on: !state.captions.asked });
    else {
      const decision = button.dataset.captionsAnswer ?? (state.captions.mine === "given" ? "refused" : "given");
      line.send({ type: "captions-answer", decision, version: state.captions.wording });
    }
  }

  #show({ captions }) {
    const { root, words, running } = this.#call;
    const label = words[captions.asked ? "captions-end" : "captions-offer"];
    offers(this.#call.one('[data-act="captions"]'), { shown: captions.offered || captions.asked, on: captions.asked, label });
    asks(this.#call.one("[data-captions-ask]"), running && captions.asked && captions.mine === "");
    for (const mine of root.querySelectorAll("[data-captions-mine]")) {
      mine.hidden = !(running && captions.asked && captions.mine);
      mine.querySelector("[data-label]").textContent = words[captions.mine === "given" ? "captions-stop-me" : "captions-join"];
    }
    if (!captions.asked) this.#call.one("[data-caption]")?.replaceChildren();
  }

  #said({ participant, text }) {
    const place = this.#call.one("[data-caption]");
    const person = this.#call.state?.people.find((one) => one.id === participant);
    if (!place || !person) return;
    const line = document.createElement("p");
    line.dir = "auto";
    const name = Object.assign(document.createElement("b"), { textContent: `${person.me ? this.#call.words.you : person.name}: ` });
    // Name and words may be of different directions: each keeps its own.
    line.append(name, Object.assign(document.createElement("bdi"), { textContent: text }));
    place.append(line);
    while (place.children.length > MOST) place.firstElementChild.remove();
    setTimeout(() => line.remove(), SHOWN_MS);
  }
}
