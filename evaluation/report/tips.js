"use strict";
// Numbers under the pointer or the finger, for whatever has `data-tip`.
const tip = document.getElementById("tip");
const showTip = (text, event) => {
  tip.hidden = !text;
  if (!text) return;
  tip.textContent = text;
  const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, room))}px`;
  const above = event.clientY + 18 + tip.offsetHeight > innerHeight;
  tip.style.top = `${above ? event.clientY - 12 - tip.offsetHeight : event.clientY + 18}px`;
};
for (const type of ["pointerover", "pointermove"]) {
  document.addEventListener(type, (event) => showTip(event.target.closest("[data-tip]")?.dataset.tip, event));
}
document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
