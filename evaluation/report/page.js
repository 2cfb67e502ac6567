"use strict";
// Sorting: a click on a heading orders the rows by its column; missing values stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") === "descending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => row.cells[column].dataset.value;
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return up ? order : -order;
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  }));
}

// Gallery: arrows left and right go from image to image, up and down from layer to layer.
const shown = JSON.parse(document.getElementById("gallery-data").textContent);
const gallery = document.getElementById("gallery");
if (shown.length) {
  const part = (name) => gallery.querySelector(`[data-part=${name}]`);
  let image = 0, layer = shown[0].layers.length - 1;
  const show = () => {
    const entry = shown[image], stage = entry.layers[layer];
    part("image").src = part("under").src = part("under-changes").src = entry.image;
    part("target").src = entry.target;
    part("labels").src = stage.labels;
    part("changes").hidden = !stage.changes;
    if (stage.changes) part("changes").src = stage.changes;
    part("stage").textContent = stage.name;
    part("title").textContent = `${image + 1} of ${shown.length}: ${entry.id}`;
    part("note").textContent = entry.note;
    part("slider").value = layer;
    part("slider").setAttribute("aria-valuetext", stage.name);
  };
  const go = (to) => { image = (to + shown.length) % shown.length; show(); };
  const walk = (to) => { layer = Math.max(0, Math.min(shown[image].layers.length - 1, to)); show(); };
  part("slider").max = shown[0].layers.length - 1;
  part("slider").addEventListener("input", (event) => walk(Number(event.target.value)));
  part("previous").addEventListener("click", () => go(image - 1));
  part("next").addEventListener("click", () => go(image + 1));
  gallery.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: () => go(image - 1), ArrowRight: () => go(image + 1), ArrowUp: () => walk(layer - 1), ArrowDown: () => walk(layer + 1) }[event.key];
    if (move) { event.preventDefault(); move(); }
  });
  for (const button of document.querySelectorAll("[data-image]")) {
    button.addEventListener("click", () => {
      const place = shown.findIndex((entry) => entry.id === button.dataset.image);
      if (place >= 0) { go(place); gallery.scrollIntoView(); gallery.focus(); }
    });
  }
  show();
}
