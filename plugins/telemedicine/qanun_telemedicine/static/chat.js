// The chat of a call, with files. What was typed while the line was down is sent when it is back.
//
//   data-chat  data-log  data-say (form)  data-file  data-unread  data-act="chat"

export class Chat {
  #call;
  #unsent = new Map();
  #unread = 0;

  constructor(call) {
    this.#call = call;
    call.one("[data-say]")?.addEventListener("submit", (event) => this.#say(event));
    call.one("[data-file]")?.addEventListener("change", (event) => this.#attach(event.target));
    call.addEventListener("said", (event) => this.#said(event.detail));
    call.addEventListener("welcome", () => {
      for (const [id, text] of this.#unsent) call.line.send({ type: "say", id, text });
    });
  }

  toggle() {
    this.open(this.#call.one("[data-chat]").hidden);
  }

  open(open) {
    const chat = this.#call.one("[data-chat]");
    if (!chat) return;
    chat.hidden = !open;
    this.#call.one('[data-act="chat"]')?.setAttribute("aria-expanded", String(open));
    if (open) {
      this.#unread = 0;
      this.#count();
      chat.querySelector("input, textarea")?.focus();
      const log = this.#call.one("[data-log]");
      log.scrollTop = log.scrollHeight;
    }
  }

  #say(event) {
    event.preventDefault();
    const field = event.target.elements.text;
    const text = field.value.trim();
    if (!text) return;
    const id = crypto.randomUUID();
    this.#unsent.set(id, text);
    this.#write({ client_id: id, text, me: true, name: "", at: new Date().toISOString() }, true);
    this.#call.line.send({ type: "say", id, text });
    field.value = "";
  }

  #fileOf(file) {
    const link = Object.assign(document.createElement("a"), { className: "q-tm-file", target: "_blank", rel: "noopener", href: `${this.#call.root.dataset.files}/${file.id}` });
    if (file.type.startsWith("image/")) link.append(Object.assign(document.createElement("img"), { src: link.href, alt: file.name, loading: "lazy" }));
    else {
      link.textContent = `${file.name} `;
      const size = Object.assign(document.createElement("bdi"), { dir: "ltr", textContent: `${Math.ceil(file.size / 1024)} kB` });
      link.append(size);
    }
    return link;
  }

  /** A photo or document: the line appears when the server has kept it. */
  async #attach(field) {
    const [file] = field.files;
    field.value = "";
    if (!file) return;
    this.#call.notice("sending");
    const body = new FormData();
    body.append("id", crypto.randomUUID());
    body.append("file", file);
    try {
      const answer = await fetch(this.#call.root.dataset.files, { method: "POST", body, headers: { accept: "application/json" } });
      const told = await answer.json().catch(() => ({}));
      if (answer.ok) this.#call.notice("");
      else this.#call.notice("not-sent", Object.values(told.fields ?? {})[0]);
    } catch {
      this.#call.notice("not-sent");
    }
  }

  #said(message) {
    this.#unsent.delete(message.client_id);
    this.#write(message, false);
    if (!message.me && this.#call.one("[data-chat]")?.hidden) {
      this.#unread += 1;
      this.#count();
    }
  }

  #write(message, pending) {
    const log = this.#call.one("[data-log]");
    if (!log) return;
    let line = [...log.children].find((one) => one.dataset.line === message.client_id);
    if (!line) {
      line = document.createElement("div");
      line.dataset.line = message.client_id;
      line.className = message.me ? "me" : "";
      const who = document.createElement("small");
      who.dir = "auto";
      who.textContent = message.me ? this.#call.words.you : message.name;
      const words = document.createElement("p");
      words.dir = "auto";
      words.textContent = message.text;
      line.append(who, words);
      log.append(line);
    }
    if (message.file && !line.querySelector(".q-tm-file")) line.append(this.#fileOf(message.file));
    line.classList.toggle("pending", pending);
    log.scrollTop = log.scrollHeight;
  }

  #count() {
    const mark = this.#call.one("[data-unread]");
    if (!mark) return;
    mark.hidden = !this.#unread;
    mark.textContent = String(this.#unread || "");
  }
}
