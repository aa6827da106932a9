// A single picture from the call into the chart: the clinic's page asks, the person shown answers, then the picture is taken
// from what is displayed at that moment and sent. Nothing is taken before the answer.

/** The clinic's side: a button on every picture of somebody else. `root.dataset.pictures` is where pictures are sent. */
export function takePictures(call) {
  const { root, line, words } = call;
  const box = root.querySelector("[data-remote]");
  const sent = new Set();
  if (!box || !root.dataset.pictures) return;

  function offer() {
    for (const tile of box.querySelectorAll("[data-tile]:not(.screen)")) {
      if (tile.querySelector("[data-picture-of]")) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "q-tm-shot";
      button.dataset.pictureOf = tile.dataset.tile;
      button.setAttribute("aria-label", words["take-picture"]);
      button.title = words["take-picture"];
      button.append(root.querySelector("[data-shot-icon]").content.cloneNode(true));
      tile.append(button);
    }
  }

  function say(text) {
    const place = root.querySelector("[data-notice]");
    if (!place) return;
    place.textContent = text;
    place.hidden = !text;
  }

  async function take(asked) {
    const video = box.querySelector(`[data-tile="${asked.participant}"]:not(.screen) video`);
    if (!video?.videoWidth) return say(words["picture-failed"]);
    const canvas = document.createElement("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92));
    const form = new FormData();
    form.set("file", blob, "picture.jpg");
    const answer = await fetch(`${root.dataset.pictures}/${asked.visit}/pictures/${asked.id}`, { method: "POST", body: form }).catch(() => null);
    say(words[answer?.ok ? "picture-kept" : "picture-failed"]);
    if (answer?.ok) root.dispatchEvent(new CustomEvent("picture-kept", { bubbles: true, detail: { id: asked.id } }));
    else sent.delete(asked.id);
  }

  new MutationObserver(offer).observe(box, { childList: true });
  offer();
  box.addEventListener("click", (event) => {
    const button = event.target.closest("[data-picture-of]");
    if (!button) return;
    line.send({ type: "picture", participant: button.dataset.pictureOf });
    say(words["picture-asked"]);
  });
  const known = new Map();
  call.addEventListener("state", (event) => {
    for (const asked of event.detail.pictures ?? []) {
      const before = known.get(asked.id);
      known.set(asked.id, asked.decision);
      if (asked.decision === "given" && !asked.taken && !sent.has(asked.id)) {
        sent.add(asked.id);
        take(asked);
      } else if (before === "open" && asked.decision === "refused") say(words["picture-refused"]);
    }
  });
}

/** The side of whom a picture would show. */
export function answerPictures(call) {
  const { root, line } = call;
  const sheet = root.querySelector("[data-picture]");
  if (!sheet) return;
  let question = null;
  call.addEventListener("state", (event) => {
    const next = call.running ? event.detail.picture : null;
    if (next?.id === question?.id) return;
    question = next;
    sheet.hidden = !next;
    if (!next) return;
    sheet.querySelector("[data-by]").textContent = next.by;
    sheet.querySelector("[data-first]")?.focus();
  });
  sheet.addEventListener("click", (event) => {
    const button = event.target.closest("[data-picture-answer]");
    if (!button || !question) return;
    line.send({ type: "picture-answer", id: question.id, decision: button.dataset.pictureAnswer, version: question.wording });
    sheet.hidden = true;
  });
}
