// Devices in a call, for who holds it: the list anew when one comes or goes. A token that was just made is shown once, so it
// stays on the page until its device is there.

export class Equipment {
  #call;
  #known = "";

  constructor(call) {
    this.#call = call;
    call.addEventListener("state", (event) => this.#look(event.detail.devices ?? []));
  }

  #look(devices) {
    const place = document.getElementById("telemedicine-devices");
    const next = JSON.stringify(devices);
    if (!place || next === this.#known) return;
    const first = this.#known === "";
    const waits = place.dataset.fresh && devices.some((one) => one.id === place.dataset.fresh && !one.connected);
    const writes = place.contains(document.activeElement) && document.activeElement.matches("input:not([readonly])");
    if (waits || writes) return;
    this.#known = next;
    if (first && devices.length === 0) return;
    globalThis.htmx?.ajax("GET", this.#call.root.dataset.devices, { target: "#telemedicine-devices", swap: "outerHTML" });
  }
}
