"use strict";
// Tables: sorted by a click on a heading (missing values stay last), filtered, columns chosen.
// A table that is wider than its window says so, with a shadow while there is more at its right.
for (const tool of document.querySelectorAll(".table-tool")) {
  const table = tool.querySelector("table"), body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells], rows = [...body.rows];
  const find = tool.querySelector("[data-part=find]"), tags = [...tool.querySelectorAll("[data-tag]")];

  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const before = head.getAttribute("aria-sort");
    const ascending = before ? before === "descending" : "ascending" in head.querySelector("button").dataset;
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const key = (row) => row.cells[column].dataset.value;
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return ascending ? order : -order;
    };
    body.append(...[...body.rows].sort(compare));
  }));

  const filter = () => {
    const words = find.value.trim().toLowerCase(), wanted = tags.filter((box) => box.checked);
    for (const row of rows) {
      const has = row.dataset.tags.split(" ");
      row.hidden = !row.cells[0].textContent.toLowerCase().includes(words)
        || !wanted.every((box) => has.includes(box.dataset.tag));
    }
    const shown = rows.filter((row) => !row.hidden).length;
    tool.querySelector("[data-part=count]").textContent = `${shown} of ${rows.length}`;
  };
  [find, ...tags].forEach((input) => input.addEventListener("input", filter));
  filter();

  const wide = tool.querySelector(".wide"), more = tool.querySelector("[data-part=more]");
  const hint = () => {
    const hidden = wide.scrollWidth - wide.clientWidth;
    more.hidden = hidden <= 1;
    wide.classList.toggle("more", hidden - wide.scrollLeft > 1);
  };
  wide.addEventListener("scroll", hint, { passive: true });
  const resized = new ResizeObserver(hint);
  for (const watched of [wide, table]) resized.observe(watched);

  const boxes = [...tool.querySelectorAll("[data-column]")];
  const choose = (chosen) => {
    for (const box of chosen) {
      heads[box.dataset.column].hidden = !box.checked;
      for (const row of rows) row.cells[box.dataset.column].hidden = !box.checked;
    }
  };
  for (const box of boxes) box.addEventListener("change", () => choose([box]));
  for (const button of tool.querySelectorAll("[data-all]")) {
    const group = boxes.filter((box) => box.dataset.group === button.dataset.all);
    button.addEventListener("click", () => {
      const show = !group.some((box) => box.checked);
      for (const box of group) box.checked = show;
      choose(group);
    });
  }
  for (const input of tool.querySelectorAll("[data-part=find-column]")) {
    const labels = [...input.closest("div").querySelectorAll("label")].slice(1);
    input.addEventListener("input", () => {
      const words = input.value.trim().toLowerCase();
      for (const one of labels) one.hidden = !one.textContent.toLowerCase().includes(words);
    });
  }
}
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});
