"use strict";
// Images: target, labels and errors of each stage, uncertainty; side by side, or two under a slider.
const gallery = JSON.parse(document.getElementById("gallery-data").textContent);
if (gallery) {
  const viewer = document.getElementById("viewer");
  const part = (name) => viewer.querySelector(`[data-part=${name}]`);
  const state = { filter: 0, place: 0, stage: gallery.stages.length - 1, view: "side", zoom: 1, x: 0, y: 0 };
  const side = ["image", "target", "labels", "errors", "uncertainty"];
  const titles = { image: "image", target: "target", labels: "labels", errors: "errors", uncertainty: "uncertainty" };

  const element = (tag, attributes = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), attributes);
    made.append(...children);
    return made;
  };
  const fill = (select, names) => names.forEach((name, index) => select.append(element("option", { value: index, textContent: name })));
  const listed = () => gallery.filters[state.filter].images;
  const current = () => gallery.images[listed()[state.place][0]];

  // What the slider can show: every panel, and the labels and errors of every stage.
  const choices = [["image"], ["target"], ["uncertainty"]];
  gallery.stages.forEach((_, stage) => choices.push(["labels", stage], ["errors", stage]));
  const nameOf = ([kind, stage]) => stage === undefined ? titles[kind] : `${gallery.stages[stage]}: ${titles[kind]}`;
  const overOf = (image, [kind, stage]) => kind === "image" ? "" : stage === undefined ? image[kind] : image.stages[stage][kind];

  const sheet = (image, choice) => {
    const over = overOf(image, choice), made = element("div", { className: "sheet" });
    made.append(element("img", { src: image.image, alt: "", draggable: false, className: over ? "under" : "" }));
    if (over) made.append(element("img", { src: over, alt: nameOf(choice), draggable: false, className: choice[0] }));
    return made;
  };
  const panel = (image, caption, ...sheets) => {
    const frame = element("div", { className: "frame" }, ...sheets);
    frame.style.aspectRatio = `${image.width} / ${image.height}`;
    return element("figure", {}, frame, element("figcaption", { textContent: caption }));
  };

  const move = (zoom, x, y) => {
    state.zoom = Math.max(1, Math.min(32, zoom));
    const limit = (value) => Math.min(0, Math.max(100 * (1 - state.zoom), value));
    [state.x, state.y] = [limit(x), limit(y)];
    for (const name of ["zoom", "x", "y"]) part("panels").style.setProperty(`--${name}`, state[name]);
    part("panels").classList.toggle("zoomed", state.zoom > 1);
  };
  // Zooms so that the point at the share (fx, fy) of the frame stays where it is.
  const zoomBy = (factor, fx = 0.5, fy = 0.5) => {
    const next = Math.max(1, Math.min(32, state.zoom * factor)), ratio = next / state.zoom;
    move(next, 100 * fx * (1 - ratio) + state.x * ratio, 100 * fy * (1 - ratio) + state.y * ratio);
  };

  const show = () => {
    const image = current(), [index, note] = listed()[state.place];
    part("title").textContent = `${state.place + 1} of ${listed().length}: ${image.id}`;
    part("note").textContent = `${note}${note && "; "}${image.height} x ${image.width} px${image.step > 1 ? `, shown at 1/${image.step}` : ""}`;
    part("stage").value = state.stage;
    part("stage").closest("label").hidden = state.view === "slider";
    part("slider-controls").hidden = state.view === "side";
    part("panels").className = `panels ${state.view}`;
    if (state.view === "side") {
      const stage = gallery.stages[state.stage];
      const captions = { ...titles, labels: `labels of ${stage}`, errors: `errors of ${stage}`, uncertainty: `uncertainty of ${gallery.source}` };
      part("panels").replaceChildren(...side.map((kind) => {
        const choice = kind === "labels" || kind === "errors" ? [kind, state.stage] : [kind];
        return panel(image, captions[kind], sheet(image, choice));
      }));
    } else {
      const [left, right] = ["left", "right"].map((name) => choices[part(name).value]);
      const above = element("div", { className: "above" }, sheet(image, right));
      part("panels").replaceChildren(panel(image, `${nameOf(left)} | ${nameOf(right)}`, sheet(image, left), above));
    }
    move(state.zoom, state.x, state.y);
    for (const thumb of part("strip").children) thumb.setAttribute("aria-current", thumb.dataset.index === String(index));
    part("strip").querySelector("[aria-current=true]")?.scrollIntoView?.({ block: "nearest", inline: "nearest", container: "nearest" });
  };
  const go = (to) => { state.place = (to + listed().length) % listed().length; move(1, 0, 0); show(); };
  const goToStage = (to) => { state.stage = Math.max(0, Math.min(gallery.stages.length - 1, to)); show(); };
  const setView = (view) => { state.view = part("view").value = view; show(); };
  const setFilter = (to) => {
    state.filter = to;
    part("filter").value = to;
    part("text").textContent = gallery.filters[to].text;
    part("strip").replaceChildren(...listed().map(([index, note], place) => {
      const image = gallery.images[index];
      const thumb = element("button", { type: "button", title: `${image.id}: ${note}`, onclick: () => go(place) }, element("img", { src: image.image, alt: image.id }));
      thumb.dataset.index = index;
      return thumb;
    }));
    go(0);
  };

  fill(part("filter"), gallery.filters.map((filter) => `${filter.name} (${filter.images.length})`));
  fill(part("stage"), gallery.stages);
  for (const name of ["left", "right"]) fill(part(name), choices.map(nameOf));
  part("left").value = 1;
  part("right").value = choices.length - 2;
  const onInput = (name, action) => part(name).addEventListener("input", (event) => action(event.target.value));
  onInput("filter", (value) => setFilter(Number(value)));
  onInput("stage", (value) => goToStage(Number(value)));
  onInput("view", setView);
  onInput("left", show);
  onInput("right", show);
  onInput("opacity", (value) => viewer.style.setProperty("--opacity", value / 100));
  onInput("cut", (value) => viewer.style.setProperty("--cut", `${value}%`));
  const actions = { previous: () => go(state.place - 1), next: () => go(state.place + 1), in: () => zoomBy(2), out: () => zoomBy(0.5), reset: () => move(1, 0, 0) };
  for (const [name, action] of Object.entries(actions)) part(name).addEventListener("click", action);

  const keys = {
    ArrowLeft: actions.previous, ArrowRight: actions.next, ArrowUp: () => goToStage(state.stage - 1), ArrowDown: () => goToStage(state.stage + 1),
    "+": actions.in, "=": actions.in, "-": actions.out, 0: actions.reset, s: () => setView(state.view === "side" ? "slider" : "side"),
  };
  viewer.addEventListener("keydown", (event) => {
    const action = keys[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select, input")) return;
    event.preventDefault();
    action();
  });

  const panels = part("panels");
  const shares = (event, frame) => {
    const box = frame.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  panels.addEventListener("dblclick", (event) => {
    const frame = event.target.closest(".frame");
    if (frame) zoomBy(2, ...shares(event, frame));
  });
  panels.addEventListener("wheel", (event) => {
    const frame = event.target.closest(".frame");
    if (!frame || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY / 200), ...shares(event, frame));
  }, { passive: false });
  panels.addEventListener("pointerdown", (event) => {
    const frame = event.target.closest(".frame");
    if (!frame || state.zoom === 1) return;
    frame.setPointerCapture(event.pointerId);
    const box = frame.getBoundingClientRect(), start = { x: state.x, y: state.y };
    const drag = (moved) => move(state.zoom, start.x + 100 * (moved.clientX - event.clientX) / box.width, start.y + 100 * (moved.clientY - event.clientY) / box.height);
    frame.addEventListener("pointermove", drag);
    const stop = () => frame.removeEventListener("pointermove", drag);
    for (const end of ["pointerup", "pointercancel"]) frame.addEventListener(end, stop, { once: true });
  });

  // The pointer names the class of its pixel, read from the drawn label maps by its colour.
  const pixel = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  const maps = new Map();
  const classAt = (src, fx, fy) => {
    if (!maps.has(src)) maps.set(src, Object.assign(new Image(), { src }));
    const map = maps.get(src);
    if (!map.naturalWidth) return "...";  // not decoded yet
    pixel.clearRect(0, 0, 1, 1);
    pixel.drawImage(map, Math.floor(fx * map.naturalWidth), Math.floor(fy * map.naturalHeight), 1, 1, 0, 0, 1, 1);
    const [red, green, blue, alpha] = pixel.getImageData(0, 0, 1, 1).data;
    const colour = `#${[red, green, blue].map((value) => value.toString(16).padStart(2, "0")).join("")}`;
    return alpha ? gallery.classes.filter(([, own]) => own.toLowerCase() === colour).map(([name]) => name).join(" or ") : "unlabelled";
  };
  panels.addEventListener("pointermove", (event) => {
    const frame = event.target.closest(".frame");
    if (!frame) return;
    event.stopPropagation();
    const [fx, fy] = shares(event, frame).map((share, axis) => (share - [state.x, state.y][axis] / 100) / state.zoom);
    const image = current(), labels = image.stages[state.stage].labels;
    showTip(`target ${classAt(image.target, fx, fy)}, ${gallery.stages[state.stage]} ${classAt(labels, fx, fy)}`, event);
  });
  setFilter(0);
}
