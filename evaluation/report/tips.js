"use strict";
// Numbers under the pointer or the finger, for whatever has `data-tip`.
const tip = document.getElementById("tip");
document.addEventListener("pointerover", (event) => {
  const marked = event.target.closest("[data-tip]");
  tip.hidden = !marked;
  if (marked) tip.textContent = marked.dataset.tip;
});
document.addEventListener("pointermove", (event) => {
  if (tip.hidden) return;
  const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, room))}px`;
  const above = event.clientY + 18 + tip.offsetHeight > innerHeight;
  tip.style.top = `${above ? event.clientY - 12 - tip.offsetHeight : event.clientY + 18}px`;
});
document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
