// A picture that stands still looks like somebody who does. Whoever looks at it is told, while the sound may well go on.

const STILL_MS = 4000;

export class Still {
  /** Video → how many of its pictures were shown when it last moved, and when that was. */
  #moved = new WeakMap();

  /** Each tile holds a video and gets the words while its picture stands still; whose page is hidden sees nothing move. */
  look(tiles, words) {
    const now = performance.now();
    for (const tile of tiles) {
      const video = tile.querySelector("video");
      const shown = video.getVideoPlaybackQuality?.().totalVideoFrames ?? 0;
      const before = this.#moved.get(video);
      if (!before || shown !== before.shown || document.visibilityState !== "visible") this.#moved.set(video, { shown, at: now });
      const still = shown > 0 && before?.shown === shown && now - before.at > STILL_MS;
      let mark = tile.querySelector(".still");
      if (still && !mark) {
        mark = document.createElement("span");
        mark.className = "still";
        mark.setAttribute("role", "status");
        mark.textContent = words;
        tile.append(mark);
      } else if (!still) mark?.remove();
    }
  }
}
