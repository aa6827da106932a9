// Long lists open where the clock stands, and stay where they were scrolled to when they are refreshed.

const kept = new Map();

function toNow(root) {
  for (const mark of root.querySelectorAll("[data-now]")) {
    const list = mark.closest(".q-scroll");
    if (list) list.scrollTop = Math.max(0, mark.offsetTop - list.offsetTop - list.clientHeight / 3);
  }
}

document.addEventListener("htmx:beforeSwap", (event) => {
  for (const list of event.detail.target.querySelectorAll(".q-scroll[id]")) kept.set(list.id, [list.scrollTop, list.scrollLeft]);
});
document.addEventListener("htmx:afterSwap", () => {
  for (const [id, [top, start]] of kept) {
    const list = document.getElementById(id);
    if (list) { list.scrollTop = top; list.scrollLeft = start; }
  }
  kept.clear();
});
toNow(document);
