// A group, on the page of one of its patients: they agree to it and choose what the others call them before they go on.
//
//   data-together (the card)  data-together-form  data-together-no  data-together-yes  data-together-refused
//   data-together-problem  data-shown-as

export class Together {
  #card;
  #call;

  /** `changed` is called when the answer changed. */
  constructor(call, card, changed) {
    this.#card = card;
    this.#call = call;
    if (!card) return;
    card.querySelector("[data-together-form]").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send("given");
    });
    card.querySelector("[data-together-no]").addEventListener("click", () => this.#send("refused"));
    call.addEventListener("problem", (event) => event.detail.about === "group-answer" && this.#problem(Object.values(event.detail.fields ?? {})[0]));
    call.addEventListener("state", (event) => {
      const { group } = event.detail;
      if (!group) return;
      card.dataset.answer = group.answer;
      card.querySelector("[data-together-yes]").hidden = group.answer !== "given";
      card.querySelector("[data-together-refused]").hidden = group.answer !== "refused";
      card.querySelector("[data-shown-as]").textContent = group.name;
      changed();
    });
  }

  /** Whether nothing of it keeps them from going on. */
  get agreed() {
    return !this.#card || this.#card.dataset.answer === "given";
  }

  #send(decision) {
    this.#problem("");
    const name = this.#card.querySelector("[name=name]").value;
    this.#call.line.send({ type: "group-answer", decision, version: this.#card.dataset.wording, name });
  }

  #problem(text) {
    const place = this.#card.querySelector("[data-together-problem]");
    place.textContent = text ?? "";
    place.hidden = !text;
    this.#card.querySelector("[name=name]").setAttribute("aria-invalid", String(Boolean(text)));
  }
}
