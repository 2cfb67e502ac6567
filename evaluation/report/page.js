"use strict";
// Sorting: a click on a heading sorts the rows by its column; missing values stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const ascending = head.getAttribute("aria-sort") === "descending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const key = (row) => row.cells[column].dataset.value;
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return ascending ? order : -order;
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  }));
}

// Gallery: the left and right keys go from image to image, up and down from stage to stage.
const entries = JSON.parse(document.getElementById("gallery-data").textContent);
const gallery = document.getElementById("gallery");
if (entries.length) {
  const part = (name) => gallery.querySelector(`[data-part=${name}]`);
  let image = 0, layer = entries[0].layers.length - 1;
  const show = () => {
    const entry = entries[image], stage = entry.layers[layer];
    part("image").src = part("under").src = part("under-changes").src = entry.image;
    part("target").src = entry.target;
    part("labels").src = stage.labels;
    part("changes").hidden = !stage.changes;
    if (stage.changes) part("changes").src = stage.changes;
    part("stage").textContent = stage.name;
    part("title").textContent = `${image + 1} of ${entries.length}: ${entry.id}`;
    part("note").textContent = entry.note;
    part("slider").value = layer;
    part("slider").setAttribute("aria-valuetext", stage.name);
  };
  const go = (to) => { image = (to + entries.length) % entries.length; show(); };
  const goToLayer = (to) => { layer = Math.max(0, Math.min(entries[image].layers.length - 1, to)); show(); };
  part("slider").max = entries[0].layers.length - 1;
  part("slider").addEventListener("input", (event) => goToLayer(Number(event.target.value)));
  part("previous").addEventListener("click", () => go(image - 1));
  part("next").addEventListener("click", () => go(image + 1));
  gallery.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: () => go(image - 1), ArrowRight: () => go(image + 1), ArrowUp: () => goToLayer(layer - 1), ArrowDown: () => goToLayer(layer + 1) }[event.key];
    if (move) { event.preventDefault(); move(); }
  });
  for (const button of document.querySelectorAll("[data-image]")) {
    button.addEventListener("click", () => {
      const index = entries.findIndex((entry) => entry.id === button.dataset.image);
      if (index >= 0) { go(index); gallery.scrollIntoView(); gallery.focus(); }
    });
  }
  show();
}
