"use strict";
// Figures: their numbers as a table and as CSV, and the drawing as SVG in light colours.
const numbers = JSON.parse(document.getElementById("numbers").textContent);
const figureStyle = document.getElementById("figure-style").textContent;

const asCsv = (rows) => rows.map((row) => row.map((value) => {
  const text = value === null ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}).join(",")).join("\r\n") + "\r\n";

const asSvg = (svg) => {
  const copy = svg.cloneNode(true), style = document.createElementNS(svg.namespaceURI, "style");
  const paper = document.createElementNS(svg.namespaceURI, "rect");
  style.textContent = figureStyle;
  for (const [name, value] of Object.entries({ width: "100%", height: "100%", class: "paper" })) paper.setAttribute(name, value);
  copy.prepend(style, paper);
  return new XMLSerializer().serializeToString(copy);
};

const save = (name, type, text) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};

for (const button of document.querySelectorAll("[data-save]")) {
  const { name } = button.dataset;
  button.addEventListener("click", () => {
    if (button.dataset.save === "csv") save(`${name}.csv`, "text/csv", asCsv(numbers[name]));
    else save(`${name}.svg`, "image/svg+xml", asSvg(button.closest("figure").querySelector("svg")));
  });
}

for (const figure of document.querySelectorAll("figure[data-figure]")) {
  const details = figure.querySelector("details.numbers");
  details.addEventListener("toggle", () => {
    const place = details.querySelector("div");
    if (place.firstChild) return;
    const table = document.createElement("table");
    numbers[figure.dataset.figure].forEach((row, index) => {
      const line = table.insertRow();
      for (const value of row) {
        const cell = document.createElement(index ? "td" : "th");
        cell.textContent = value === null ? "-" : Number.isInteger(value) || typeof value === "string" ? value : value.toPrecision(4);
        line.append(cell);
      }
    });
    place.append(table);
  });
}
