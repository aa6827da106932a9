// What a call can show beside the camera, and how: screen, second camera, the other camera of a phone, a small window, a
// blurred background. Each is offered only where this browser and this device can.
//
//   data-act="screen | second | second-show | float | flip | blur"  data-cameras (the choice of a second camera)

import { otherCameras } from "./devices.js";

export class Extras {
  #call;
  #known = null;

  constructor(call) {
    this.#call = call;
    call.addEventListener("started", () => this.#offer());
    navigator.mediaDevices?.addEventListener?.("devicechange", () => call.running && this.#offer());
  }

  press(button) {
    switch (button.dataset.act) {
      case "screen":
        return this.#screen(button);
      case "second":
        return this.#second(button);
      case "second-show":
        return this.#showSecond();
      case "float":
        return this.#float();
      case "flip":
        return this.#flip();
      case "blur":
        return this.#blur();
    }
  }

  async #screen(button) {
    if (button.getAttribute("aria-pressed") === "true") {
      await this.#call.session?.stopScreen();
      button.setAttribute("aria-pressed", "false");
      return;
    }
    try {
      const screen = await navigator.mediaDevices.getDisplayMedia({ video: true });
      button.setAttribute("aria-pressed", "true");
      screen.getVideoTracks()[0].addEventListener("ended", () => button.setAttribute("aria-pressed", "false"));
      await this.#call.session?.shareScreen(screen);
    } catch {
      // Nothing was chosen.
    }
  }

  /** A second camera (otoscope, dermatoscope, document camera) beside the first: its own track, like a screen. */
  async #second(button) {
    const chooser = this.#call.one("[data-cameras]");
    if (button.getAttribute("aria-pressed") === "true") {
      await this.#call.session?.stopScreen();
      button.setAttribute("aria-pressed", "false");
      return;
    }
    const others = await otherCameras(this.#call.stream);
    if (others.length === 1) this.#showSecond(others[0].deviceId);
    else {
      chooser.querySelector("select").replaceChildren(...others.map((one) => new Option(one.label, one.deviceId)));
      chooser.hidden = !chooser.hidden;
      chooser.querySelector("select").focus();
    }
  }

  async #showSecond(id = this.#call.one("[data-cameras] select")?.value) {
    const button = this.#call.one('[data-act="second"]');
    this.#call.one("[data-cameras]").hidden = true;
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ video: { deviceId: { exact: id }, width: { ideal: 1920 }, height: { ideal: 1080 } } });
      const screen = this.#call.one('[data-act="screen"]');
      if (screen?.getAttribute("aria-pressed") === "true") {
        await this.#call.session?.stopScreen();
        screen.setAttribute("aria-pressed", "false");
      }
      stream.getVideoTracks()[0].addEventListener("ended", () => button.setAttribute("aria-pressed", "false"));
      await this.#call.session?.shareScreen(stream);
      button.setAttribute("aria-pressed", "true");
    } catch {
      this.#call.notice("no-camera");
    }
  }

  /** The others' picture in a window above everything, while working in the chart. */
  async #float() {
    if (document.pictureInPictureElement) {
      await document.exitPictureInPicture().catch(() => {});
      return;
    }
    const video = this.#call.one(".q-tm-tile.speaks video") ?? this.#call.one(".q-tm-tile video");
    await video?.requestPictureInPicture().catch(() => {});
  }

  async #offer() {
    const second = this.#call.one('[data-act="second"]');
    if (second) second.hidden = !(await otherCameras(this.#call.stream)).length && second.getAttribute("aria-pressed") !== "true";
    const float = this.#call.one('[data-act="float"]');
    if (float) float.hidden = !document.pictureInPictureEnabled;
    this.#showBlur();
  }

  /** The other camera of a phone. */
  async #flip() {
    const now = this.#call.stream?.getVideoTracks()[0];
    const side = now?.getSettings().facingMode === "environment" ? "user" : "environment";
    try {
      const other = await navigator.mediaDevices.getUserMedia({ video: { facingMode: { ideal: side } } });
      const [track] = other.getVideoTracks();
      if (this.#call.session) await this.#call.session.replaceTrack("video", track);
      if (now && now !== track) {
        this.#call.stream.removeTrack(now);
        now.stop();
      }
      if (!this.#call.stream.getTracks().includes(track)) this.#call.stream.addTrack(track);
      const view = this.#call.one("[data-self]");
      if (view) view.srcObject = this.#call.stream;
      this.#showBlur();
    } catch {
      // There is only one.
    }
  }

  // -- background ----------------------------------------------------------------------------------------------------

  /** The platform blurs what is behind the person, on this device, where it can at all. */
  async #blur() {
    const track = this.#call.stream?.getVideoTracks()[0];
    if (!track) return;
    try {
      await track.applyConstraints({ backgroundBlur: !track.getSettings().backgroundBlur });
    } catch {
      this.#call.notice("no-blur");
    }
    this.#showBlur();
  }

  #showBlur() {
    const button = this.#call.one('[data-act="blur"]');
    if (!button) return;
    const track = this.#call.stream?.getVideoTracks()[0];
    const can = track?.getCapabilities?.().backgroundBlur ?? [];
    const on = Boolean(track?.getSettings().backgroundBlur);
    // Some systems have it and do not let a page switch it.
    button.hidden = !(can.includes(true) && can.includes(false));
    button.setAttribute("aria-pressed", String(on));
    button.classList.toggle("on", on);
    if (track && track !== this.#known) {
      this.#known = track;
      track.addEventListener("configurationchange", () => this.#showBlur());
    }
  }
}
