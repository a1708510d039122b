"use strict";
const byId = (id) => document.getElementById(id);
// Sets of images of one scene, and a function from the numbers of a set and an image to a URL: see showSets.
let [sets, urlOf] = [[], null];
const [viewport, canvas, under, over, grid] = ["viewport", "canvas", "under", "over", "grid"].map(byId);
// Device pixels for a pixel of the largest image.
const LEVELS = [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16, 32];
const BLINK_MS = 700;
const GRID_FROM = 8;
const state = { set: 0, left: 0, right: 1, mode: "divider", zoom: 1, isFit: true, divider: 0.5 };
let blinking = 0;

/** Width and height of the larger one of the images shown. */
function size() {
  const shown = [state.left, state.right].map((at) => sets[state.set].images[at]);
  return shown.reduce((a, b) => (b.width_px > a.width_px ? b : a));
}

function fitZoom() {
  const { width_px, height_px } = size();
  const [width, height] = [viewport.clientWidth, viewport.clientHeight].map((px) => px * devicePixelRatio);
  const fit = Math.min(width / width_px, height / height_px);
  return fit > 1 ? Math.min(Math.floor(fit), 8) : fit;
}

function showImages() {
  for (const [element, at] of [[under, state.left], [over, state.right]]) {
    element.src = urlOf(state.set, at);
    element.alt = sets[state.set].images[at].label;
  }
  const texts = [state.left, state.right].map((at) => {
    const image = sets[state.set].images[at];
    return [`${image.label}: ${image.width_px} × ${image.height_px}`, ...image.notes].join(", ");
  });
  byId("caption").textContent = texts.join(" · ");
  byId("left-tag").textContent = under.alt;
  byId("right-tag").textContent = over.alt;
  layout();
}

/** Sizes everything for the zoom, and keeps the point of the image at `x`, `y` of the viewport. */
function layout(x = viewport.clientWidth / 2, y = viewport.clientHeight / 2) {
  const before = canvas.getBoundingClientRect();
  const frame = viewport.getBoundingClientRect();
  const at = [(frame.left + x - before.left) / before.width, (frame.top + y - before.top) / before.height];
  if (state.isFit) state.zoom = fitZoom();
  const { width_px, height_px } = size();
  const px = state.zoom / devicePixelRatio;
  canvas.style.width = `${width_px * px}px`;
  canvas.style.height = `${height_px * px}px`;
  for (const [element, image] of [[under, state.left], [over, state.right]]) {
    const enlarged = state.zoom * width_px / sets[state.set].images[image].width_px;
    element.classList.toggle("pixels", enlarged >= 1.99);
  }
  grid.style.display = state.zoom >= GRID_FROM ? "block" : "none";
  // Dark and light, to be seen on both.
  const line = "#0006 0 1px, #fff5 1px 2px, #0000 2px";
  grid.style.background = `linear-gradient(90deg, ${line}) 0 0/${px}px, linear-gradient(${line}) 0 0/100% ${px}px`;
  if (before.width > 0) {
    viewport.scrollLeft = at[0] * width_px * px - x;
    viewport.scrollTop = at[1] * height_px * px - y;
  }
  const percent = state.zoom < 1 ? Math.round(state.zoom * 1000) / 10 : state.zoom * 100;
  byId("zoom").textContent = `${percent} %`;
  clip();
}

/** Shows the right image to the right of the divider. */
function clip() {
  const isDivider = state.mode === "divider";
  const frame = viewport.getBoundingClientRect();
  const x = state.divider * frame.width;
  byId("line").style.left = `${x}px`;
  const cut = frame.left + x - canvas.getBoundingClientRect().left;
  over.style.clipPath = isDivider ? `inset(0 0 0 ${Math.max(0, cut)}px)` : "none";
}

function setMode(mode) {
  state.mode = mode;
  document.querySelector(`input[name=mode][value=${mode}]`).checked = true;
  const isDivider = mode === "divider";
  byId("line").hidden = byId("divider").hidden = !isDivider;
  byId("gain-label").hidden = mode !== "difference";
  canvas.classList.toggle("difference", mode === "difference");
  canvas.style.filter = mode === "difference" ? `brightness(${byId("gain").value})` : "none";
  clearInterval(blinking);
  const show = (isRight) => {
    over.style.visibility = isRight ? "visible" : "hidden";
    byId("left-tag").hidden = mode === "blink" && isRight;
    byId("right-tag").hidden = mode === "blink" && !isRight;
  };
  show(true);
  if (mode === "blink") {
    let isRight = true;
    blinking = setInterval(() => show((isRight = !isRight)), BLINK_MS);
  }
  clip();
}

function setZoom(zoom, x, y) {
  state.isFit = zoom === "fit";
  if (!state.isFit) state.zoom = zoom;
  layout(x, y);
}

function step(direction, x, y) {
  const next = direction > 0 ? LEVELS.find((level) => level > state.zoom * 1.001)
    : LEVELS.findLast((level) => level < state.zoom * 0.999);
  if (next) setZoom(next, x, y);
}

function setDivider(part) {
  state.divider = Math.min(1, Math.max(0, part));
  byId("divider").value = Math.round(state.divider * 1000);
  clip();
}

function showSet(number) {
  state.set = (number + sets.length) % sets.length;
  const { name, images } = sets[state.set];
  for (const side of ["left", "right"]) state[side] = Math.min(state[side], images.length - 1);
  if (state.left === state.right) state.left = 0;
  byId("title").textContent = sets.length > 1 ? name : images.map((image) => image.label).join(", ");
  byId("set").value = state.set;
  for (const side of ["left", "right"]) {
    byId(side).replaceChildren(...images.map(({ label }, at) => new Option(label, at)));
    byId(side).value = state[side];
  }
  showImages();
}

/** Shows two images of a set. */
function showPair(set, left, right) {
  Object.assign(state, { left, right });
  showSet(set);
}

/**
 * Shows set number `at`. A set has a name and two or more images with label, width_px, height_px and notes.
 */
function showSets(newSets, newUrlOf, at) {
  [sets, urlOf] = [newSets, newUrlOf];
  byId("set").replaceChildren(...sets.map(({ name }, at) => new Option(name, at)));
  byId("set-bar").hidden = sets.length < 2;
  showSet(at);
}

for (const side of ["left", "right"]) {
  byId(side).onchange = (event) => { state[side] = Number(event.target.value); showImages(); };
}
for (const radio of document.getElementsByName("mode")) radio.onchange = () => setMode(radio.value);
byId("gain").onchange = () => setMode("difference");
byId("set").onchange = (event) => showSet(Number(event.target.value));
byId("previous").onclick = () => showSet(state.set - 1);
byId("next").onclick = () => showSet(state.set + 1);
byId("fit").onclick = () => setZoom("fit");
byId("one").onclick = () => setZoom(1);
byId("in").onclick = () => step(1);
byId("out").onclick = () => step(-1);
byId("divider").oninput = (event) => setDivider(event.target.value / 1000);
viewport.onscroll = clip;
new ResizeObserver(() => sets.length > 0 && layout()).observe(viewport);

viewport.addEventListener("wheel", (event) => {
  if (!event.ctrlKey) return;
  event.preventDefault();
  const frame = viewport.getBoundingClientRect();
  step(-event.deltaY, event.clientX - frame.left, event.clientY - frame.top);
}, { passive: false });

/** Calls `move` with each position of a pointer that is held down. */
function onDrag(element, move) {
  element.onpointerdown = (event) => {
    // Fingers scroll the viewport themselves.
    if (event.button !== 0 || (element === viewport && event.pointerType === "touch")) return;
    element.setPointerCapture(event.pointerId);
    element.onpointermove = move;
    element.onpointerup = element.onpointercancel = () => { element.onpointermove = null; };
  };
}
onDrag(viewport, (event) => viewport.scrollBy(-event.movementX, -event.movementY));
onDrag(byId("line"), (event) => {
  const frame = viewport.getBoundingClientRect();
  setDivider((event.clientX - frame.left) / frame.width);
});

document.onkeydown = (event) => {
  const isTyping = event.target.matches("select, input:not([type=radio], [type=range])");
  if (sets.length === 0 || event.ctrlKey || event.metaKey || event.altKey || isTyping) return;
  const actions = {
    1: () => setMode("divider"), 2: () => setMode("blink"), 3: () => setMode("difference"),
    "+": () => step(1), "-": () => step(-1), 0: () => setZoom("fit"),
    "[": () => showSet(state.set - 1), "]": () => showSet(state.set + 1),
  };
  const action = actions[event.key];
  if (action) { event.preventDefault(); action(); }
};

setMode("divider");
