// Several views of one recording, played together: they lie on one timeline, so one set of controls moves all.

const stage = document.querySelector("[data-views]");
const views = stage ? [...stage.querySelectorAll("video, audio")] : [];
const lead = views[0];

function follow(act) {
  for (const view of views.slice(1)) act(view);
}

if (lead) {
  lead.addEventListener("play", () => follow((view) => view.play().catch(() => {})));
  lead.addEventListener("pause", () => follow((view) => view.pause()));
  lead.addEventListener("seeked", () => follow((view) => (view.currentTime = lead.currentTime)));
  lead.addEventListener("ratechange", () => follow((view) => (view.playbackRate = lead.playbackRate)));
  // Two clocks drift: a step of a quarter second is not noticed, an echo is.
  lead.addEventListener("timeupdate", () =>
    follow((view) => {
      if (Math.abs(view.currentTime - lead.currentTime) > 0.25) view.currentTime = lead.currentTime;
    }),
  );
}
