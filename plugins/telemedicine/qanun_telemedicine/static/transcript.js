// What is said, kept in the record on request. The clinic asks, everybody answers; one no ends it and throws away what was written.
//
//   data-act="transcript" (the clinic's)  data-transcript-ask (the question)  data-transcript-answer="given | refused"
//   data-transcript-stop (one's own no, afterwards)  data-transcript (how it stands)

import { asks, offers } from "./asking.js";

export class Transcript {
  #call;

  constructor(call) {
    this.#call = call;
    call.addEventListener("state", (event) => this.#show(event.detail.captions.kept));
    call.addEventListener("started", () => call.state && this.#show(call.state.captions.kept));
    call.root.addEventListener("click", (event) => {
      const button = event.target.closest('[data-act="transcript"], [data-transcript-answer], [data-transcript-stop]');
      if (button) this.#press(button);
    });
  }

  #press(button) {
    const { line, state } = this.#call;
    const { kept } = state.captions;
    if (button.dataset.act) line.send({ type: "transcript", on: !kept.asked });
    else line.send({ type: "transcript-answer", decision: button.dataset.transcriptAnswer ?? "refused", version: kept.wording });
  }

  #show(kept) {
    const { words, running } = this.#call;
    const label = words[kept.asked ? "transcript-end" : "transcript-ask"];
    offers(this.#call.one('[data-act="transcript"]'), { shown: kept.offered || kept.asked, on: kept.asked, label });
    asks(this.#call.one("[data-transcript-ask]"), running && kept.asked && kept.mine === "");
    const mark = this.#call.one("[data-transcript]");
    if (mark) {
      mark.hidden = !kept.asked;
      mark.textContent = words[kept.writes ? "transcript-writes" : "transcript-waits"];
    }
    for (const stop of this.#call.root.querySelectorAll("[data-transcript-stop]")) stop.hidden = !(running && kept.asked && kept.mine === "given");
  }
}
