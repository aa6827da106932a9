// A call with several people: who asks to speak, who is muted, and for the clinic muting, putting out and the lock.
//
//   data-roster (list; staff)   data-group (shown from three people on)   data-group-act="hand | lock | mute-all"
//   data-mark="hand | muted" (templates of the icons)

export class Group {
  #call;
  #asked = undefined;
  #shut = [];

  constructor(call) {
    this.#call = call;
    call.addEventListener("state", (event) => this.#show(event.detail));
    call.addEventListener("pictures", () => this.#mark());
    call.addEventListener("switched", () => this.#report());
    call.addEventListener("started", () => this.#report());
    call.root.addEventListener("click", (event) => {
      const button = event.target.closest("[data-group-act]");
      if (button) this.#press(button);
    });
  }

  get #me() {
    return this.#call.state?.people.find((one) => one.me);
  }

  #report() {
    const microphone = this.#call.stream?.getAudioTracks()[0];
    if (this.#me && this.#me.muted !== !microphone?.enabled) this.#call.line.send({ type: "muted", on: !microphone?.enabled });
  }

  #show(state) {
    // What was asked before this page came is old.
    if (this.#asked !== undefined && state.mute_asked && state.mute_asked !== this.#asked && this.#call.running) this.#call.silence();
    this.#asked = state.mute_asked;
    if (this.#call.running) this.#report();
    this.#closed(state.group?.visits ?? []);
    const several = state.people.length > 2 || state.locked || Boolean(state.group);
    for (const part of this.#call.root.querySelectorAll("[data-group]")) part.hidden = !several;
    const hand = this.#call.one('[data-group-act="hand"]');
    if (hand) this.#pressed(hand, Boolean(this.#me?.hand), "hand-down", "hand-up");
    const lock = this.#call.one('[data-group-act="lock"]');
    if (lock) this.#pressed(lock, state.locked, "unlock", "lock");
    this.#roster(state);
    this.#mark();
  }

  /** Whose record was closed to who leads the group has no seat in it any more. */
  #closed(visits) {
    const shut = visits.filter((one) => one.closed && one.state === "in-progress").map((one) => one.id);
    if (shut.some((id) => !this.#shut.includes(id))) this.#call.notice("record-closed");
    this.#shut = shut;
  }

  #pressed(button, on, yes, no) {
    button.setAttribute("aria-pressed", String(on));
    button.classList.toggle("on", on);
    const words = this.#call.words[on ? yes : no];
    const label = button.querySelector("[data-label]");
    if (label) label.textContent = words;
    else button.setAttribute("aria-label", words);
  }

  /** The list with who may be heard next first: raised hands in the order in which they were raised. */
  #roster(state) {
    const list = this.#call.one("[data-roster]");
    if (!list) return;
    const focus = list.contains(document.activeElement) ? document.activeElement.dataset.key : "";
    const order = (one) => one.hand ?? "~";
    const people = [...state.people].sort((a, b) => (order(a) < order(b) ? -1 : order(a) > order(b) ? 1 : 0));
    list.replaceChildren(...people.map((one) => this.#line(one)));
    if (focus) list.querySelector(`[data-key="${CSS.escape(focus)}"]`)?.focus();
  }

  #line(one) {
    const words = this.#call.words;
    const line = document.createElement("li");
    const name = Object.assign(document.createElement("span"), { className: "q-grow q-trunc", textContent: one.me ? `${one.name} (${words.you})` : one.name });
    name.dir = "auto";
    line.append(this.#marks(one), name);
    if (one.me) return line;
    if (one.chart) {
      // In a group every patient has a chart of their own; the call goes on beside it.
      const chart = Object.assign(document.createElement("a"), { className: "btn btn-sm", href: one.chart, textContent: words["open-chart"] });
      chart.dataset.key = `chart ${one.id}`;
      chart.setAttribute("aria-label", `${words["open-chart"]}: ${one.name}`);
      line.append(chart);
    }
    const acts = [];
    if (one.hand) acts.push(["lower", words["hand-lower"]]);
    if (!one.muted) acts.push(["mute", words.mute]);
    if (one.guest) acts.push(["out", words["put-out"]]);
    for (const [act, label] of acts) {
      const button = Object.assign(document.createElement("button"), { type: "button", className: "btn btn-ghost btn-sm", textContent: label });
      button.dataset.groupAct = act;
      button.dataset.who = act === "out" ? one.guest : one.id;
      button.dataset.key = `${act} ${one.id}`;
      button.setAttribute("aria-label", `${label}: ${one.name}`);
      line.append(button);
    }
    return line;
  }

  #marks(one) {
    const marks = Object.assign(document.createElement("span"), { className: "q-tm-marks" });
    for (const [name, on] of [["hand", Boolean(one.hand)], ["muted", one.muted]]) {
      const template = on && this.#call.one(`template[data-mark="${name}"]`);
      if (template) marks.append(template.content.cloneNode(true));
    }
    return marks;
  }

  #mark() {
    for (const tile of this.#call.root.querySelectorAll("[data-tile]:not(.screen)")) {
      const one = this.#call.state?.people.find((person) => person.id === tile.dataset.tile);
      const key = one ? `${Boolean(one.hand)}${one.muted}` : "";
      if (tile.dataset.marks === key) continue;
      tile.dataset.marks = key;
      tile.querySelector(".q-tm-marks")?.remove();
      if (one && (one.hand || one.muted)) tile.append(this.#marks(one));
      tile.classList.toggle("hand", Boolean(one?.hand));
    }
  }

  #press(button) {
    const { line, state } = this.#call;
    switch (button.dataset.groupAct) {
      case "hand":
        line.send({ type: "hand", on: !this.#me?.hand });
        break;
      case "lock":
        line.send({ type: "lock", on: !state?.locked });
        break;
      case "mute-all":
        line.send({ type: "mute" });
        break;
      case "mute":
      case "lower":
        line.send({ type: button.dataset.groupAct, who: button.dataset.who });
        break;
      case "out":
        globalThis.htmx?.ajax("POST", `${this.#call.root.dataset.guests}/${button.dataset.who}/remove`, { target: "#telemedicine-guests", swap: "outerHTML" });
        break;
    }
  }
}
