// The page's own line to a consultation: a WebSocket that comes back by itself, and knows when it must not.
//
// Events: "message" (detail: the message), "up" (connected; the server greets first), "down", "over" (detail.code:
// signed-out, elsewhere).

const PAUSES = [200, 400, 800, 1500, 3000, 5000];
const PING_MS = 4000;
const SILENT_MS = 9000;
const OVER = { 4401: "signed-out", 4409: "elsewhere" };

export class Line extends EventTarget {
  #url;
  #socket = null;
  #tries = 0;
  #timer = 0;
  #ping = 0;
  #heard = 0;
  #ended = false;

  constructor(path) {
    super();
    const url = new URL(path, location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    this.#url = url;
    addEventListener("online", () => this.#retry(true));
    addEventListener("pagehide", () => this.end());
    addEventListener("pageshow", (event) => {
      if (event.persisted) location.reload();
    });
  }

  get up() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  open() {
    if (this.#ended || this.#socket) return;
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    this.#heard = performance.now();
    socket.addEventListener("open", () => {
      if (socket !== this.#socket) return;
      this.#tries = 0;
      this.#tell("up");
    });
    socket.addEventListener("message", (event) => {
      if (socket !== this.#socket) return;
      this.#heard = performance.now();
      const message = JSON.parse(event.data);
      if (message.type !== "pong") this.#tell("message", message);
    });
    socket.addEventListener("close", (event) => this.#closed(socket, event.code));
    clearInterval(this.#ping);
    this.#ping = setInterval(() => this.#watch(), PING_MS);
  }

  /** False when it could not be sent; the caller decides whether to send it again. */
  send(message) {
    if (!this.up) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  end() {
    this.#ended = true;
    clearTimeout(this.#timer);
    clearInterval(this.#ping);
    this.#socket?.close();
    this.#socket = null;
  }

  #watch() {
    // A cut network says nothing for minutes; silence does.
    if (performance.now() - this.#heard > SILENT_MS) this.#closed(this.#socket, 0);
    else this.send({ type: "ping" });
  }

  #closed(socket, code) {
    if (socket !== this.#socket || this.#ended) return;
    this.#socket = null;
    socket?.close();
    clearInterval(this.#ping);
    if (OVER[code]) {
      this.#ended = true;
      this.#tell("over", { code: OVER[code] });
      return;
    }
    this.#tell("down");
    this.#retry();
  }

  #retry(now = false) {
    if (this.#ended || this.#socket) return;
    clearTimeout(this.#timer);
    const pause = now ? 0 : PAUSES[Math.min(this.#tries, PAUSES.length - 1)];
    this.#tries += 1;
    this.#timer = setTimeout(() => (this.#tries % 6 === 5 ? this.#ask() : this.open()), pause);
  }

  /** A refused handshake tells nothing: ask the page itself whether we may still be here. */
  async #ask() {
    try {
      const answer = await fetch(location.href, { method: "GET", redirect: "manual", headers: { accept: "text/html" } });
      if (answer.type === "opaqueredirect" || answer.status === 401) {
        this.#ended = true;
        this.#tell("over", { code: "signed-out" });
        return;
      }
    } catch {
      // No network: keep trying.
    }
    this.open();
  }

  #tell(name, detail = null) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
