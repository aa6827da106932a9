// The desk: what is chosen in the day stands in the booking form, and goes along to the page of the next patient. Without
// this script the same page works by plain links and forms.

const held = document.getElementById("held");

document.addEventListener("change", (event) => {
  const radio = event.target;
  if (!radio.matches("[name=slot][type=radio]")) return;
  for (const field of document.querySelectorAll("[data-carry]")) field.value = radio.value;
  const place = document.querySelector("[data-slot]");
  if (!place) return;
  const words = document.createElement("span");
  words.dir = "auto";
  words.textContent = radio.dataset.slotText;
  place.replaceChildren(words);
});

document.addEventListener("click", async (event) => {
  const link = event.target.closest("a[data-carry-slot]");
  if (link && held.value) {
    const target = new URL(link.href);
    target.searchParams.set("slot", held.value);
    link.href = target.href;
  }
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    const field = copy.parentElement.querySelector("input[readonly]");
    // Without a secure address the browser keeps the clipboard to itself: then the text is selected for Ctrl+C.
    const done = navigator.clipboard ? await navigator.clipboard.writeText(copy.dataset.copy).then(() => true, () => false) : false;
    if (done) copy.querySelector("[data-label]").textContent = copy.dataset.done;
    else field?.select();
  }
});

// Arrow keys walk from the search field through whom it found.
document.addEventListener("keydown", (event) => {
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  const lines = [...document.querySelectorAll("#scheduling-found [data-walk]")];
  const field = document.getElementById("sc-q");
  const at = lines.indexOf(document.activeElement);
  if (!lines.length || (at < 0 && document.activeElement !== field)) return;
  event.preventDefault();
  const to = at + (event.key === "ArrowDown" ? 1 : -1);
  if (to < 0) field.focus();
  else lines[Math.min(to, lines.length - 1)].focus();
});
