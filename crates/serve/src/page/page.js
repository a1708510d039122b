"use strict";
// The page of both engines. engine.js has the one that runs: a server, or a module in this browser.
// Images in the order of their choice.
const items = [];
/** What the viewer shows, in the order of the results. */
const shown = [];
let [running, isReady] = [0, false];

function show(element, text, isError) {
  element.textContent = text;
  element.classList.toggle("error", isError);
}

function complain(text) {
  byId("message").textContent = text;
  byId("message").hidden = !text;
}

/** Asks the engine what it has, and starts. */
async function connect() {
  let found = null;
  try {
    found = await engine.describe();
  } catch (error) {
    byId("token-form").hidden = !error.needsToken;
    byId("device").textContent = "";
    return complain(error.message);
  }
  byId("token-form").hidden = true;
  complain("");
  const threads = found.threads === 1 ? "1 thread" : `${found.threads} threads`;
  const gpu = found.gpu ? `WebGPU on ${found.gpu}, else ` : "";
  byId("device").textContent = `${gpu}${found.device}, ${threads}, ${found.instruction_set}; ${found.place}`;
  const kinds = [...new Set(found.models.map((model) => model.kind))];
  for (const id of ["model", "other-model"]) {
    const known = [...byId(id).options].map((option) => option.value);
    byId(id).append(...kinds.filter((kind) => !known.includes(kind)).map((kind) => new Option(kind, kind)));
  }
  byId("f16-label").hidden = !found.has_f16;
  isReady = true;
  next();
}

/** The parameters as chosen, for a model. */
function query(model) {
  const size = byId("size").value;
  const parameters = new URLSearchParams(size.includes("=") ? size : { [size]: byId("side").value });
  if (model) parameters.set("model", model);
  if (byId("format").value) parameters.set("format", byId("format").value);
  const hasStrength = !byId("strength").disabled && ["", "photo"].includes(model);
  if (hasStrength) parameters.set("strength", byId("strength").value);
  if (byId("f16").checked) parameters.set("precision", "f16");
  return parameters;
}

/** Adds an element of a class or with a text to a row. */
function addTo(row, kind, properties) {
  const element = Object.assign(document.createElement(kind), properties);
  row.append(element);
  return element;
}

function add(files) {
  const [model, other] = [byId("model").value, byId("other-model").value];
  const models = other === "none" || other === model ? [model] : [model, other];
  for (const file of files) {
    const row = addTo(byId("list"), "li", {});
    addTo(row, "span", { className: "name", textContent: file.name });
    const state = addTo(row, "span", { className: "state", textContent: "waits" });
    const bar = addTo(row, "progress", { max: 1, value: 0, ariaLabel: `Progress of ${file.name}` });
    const cancel = addTo(row, "button", { type: "button", textContent: "Cancel", ariaLabel: `Cancel ${file.name}` });
    const item = { file, row, state, bar, cancel, queries: models.map(query), stop: new AbortController(), results: [] };
    cancel.onclick = () => cancelItem(item);
    items.push(item);
  }
  next();
}

function cancelItem(item) {
  if (item.hasEnded) return;
  item.stop.abort();
  if (!item.isRunning) end(item, "cancelled", false);
}

/** Starts images while fewer run than the engine takes at a time. */
function next() {
  for (const item of items) {
    if (!isReady || running >= engine.imagesAtATime) break;
    if (item.hasEnded || item.isRunning) continue;
    item.isRunning = true;
    running += 1;
    work(item).catch((error) => {
      const isCancelled = item.stop.signal.aborted;
      end(item, isCancelled ? "cancelled" : error.message, !isCancelled);
    }).finally(() => { running -= 1; next(); });
  }
  const [ended, all] = [items.filter((item) => item.hasEnded).length, items.length];
  byId("batch").hidden = all === 0;
  byId("cancel-all").hidden = ended === all;
  byId("download-all").hidden = results().length < 2;
  byId("batch-progress").value = ended / Math.max(all, 1);
  byId("batch-text").textContent = `${ended} of ${all} ${all === 1 ? "image" : "images"}`;
}

function end(item, text, isError) {
  item.hasEnded = true;
  item.bar.remove();
  item.cancel.remove();
  show(item.state, text, isError);
  next();
}

/** What ran, and what the result lacks. */
function described({ report, warnings }) {
  const model = report.model ? `, ${report.model}` : "";
  const strength = report.strength == null ? "" : ` at strength ${report.strength.toFixed(2)}`;
  const damage = report.damage ? ` (${report.damage})` : "";
  const size = `${report.width_px} × ${report.height_px}`;
  const precision = report.precision === "f16" ? " in f16" : "";
  const device = report.device ? `, ${report.device}${precision}` : "";
  const what = `${size}${model}${strength}${damage}${device}, ${report.seconds.toFixed(1)} s`;
  const ofDevice = report.device_warning ? [report.device_warning] : [];
  return [what, ...ofDevice, ...warnings].join("; ");
}

async function work(item) {
  const { file, queries, stop: { signal } } = item;
  show(item.state, "starts", false);
  for (const [at, query] of queries.entries()) {
    const progress = (part) => {
      item.bar.value = (at + part) / queries.length;
      show(item.state, `${Math.round(100 * item.bar.value)} %`, false);
    };
    const wait = (text) => show(item.state, text, false);
    const result = await engine.upscale(file, query, { signal, progress, wait });
    const { type } = result.blob;
    const suffix = { "image/jpeg": "jpg", "image/tiff": "tif" }[type] ?? type.split("/")[1];
    const model = queries.length > 1 ? `-${result.report.model}` : "";
    const name = `${file.name.replace(/\.[^.]*$/, "")}-upscaled${model}.${suffix}`;
    item.results.push({ ...result, name, url: URL.createObjectURL(result.blob) });
  }
  end(item, item.results.map(described).join("; "), false);
  for (const { name, url, report } of item.results) {
    const textContent = queries.length > 1 ? `Download ${report.model}` : "Download";
    addTo(item.row, "a", { href: url, download: name, textContent, ariaLabel: `${textContent} (${name})` });
  }
  await offerComparison(item);
}

/** Adds the image and its results to the viewer, if the browser can show them. */
async function offerComparison({ file, row, state: text, results }) {
  const urls = [URL.createObjectURL(file), ...results.map((result) => result.url)];
  const sizes = await Promise.all(urls.map(async (source) => {
    const image = new Image();
    image.src = source;
    await image.decode();
    return { width_px: image.naturalWidth, height_px: image.naturalHeight };
  })).catch(() => null);
  if (!sizes) {
    text.textContent += "; this browser cannot show it here";
    return;
  }
  const labels = [file.name, ...results.map(({ report }) => `upscaled (${report.model ?? "no model"})`)];
  const images = sizes.map((size, at) => ({ ...size, label: labels[at], notes: [] }));
  const at = shown.push({ name: file.name, images, urls }) - 1;
  byId("viewer").hidden = false;
  // Two models, or the image and its result.
  const compare = () => showPair(at, images.length - 2, images.length - 1);
  showSets(shown, (set, image) => shown[set].urls[image], at === 0 ? 0 : state.set);
  if (at === 0) compare();
  const button = addTo(row, "button", { type: "button", textContent: "Compare", ariaLabel: `Compare ${file.name}` });
  button.onclick = () => { compare(); byId("viewer").scrollIntoView({ behavior: "smooth" }); };
}

function results() {
  return items.flatMap((item) => item.results);
}

async function downloadAll() {
  const url = URL.createObjectURL(await zip(results()));
  Object.assign(document.createElement("a"), { href: url, download: "upscaled.zip" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

byId("token-form").onsubmit = (event) => {
  event.preventDefault();
  engine.token = byId("token").value.trim();
  connect();
};
byId("files").onchange = (event) => { add(event.target.files); event.target.value = ""; };
document.onpaste = (event) => add(event.clipboardData.files);
document.ondragover = (event) => { event.preventDefault(); byId("drop").classList.add("over"); };
document.ondragleave = () => byId("drop").classList.remove("over");
document.ondrop = (event) => {
  event.preventDefault();
  byId("drop").classList.remove("over");
  add(event.dataTransfer.files);
};
byId("cancel-all").onclick = () => items.forEach(cancelItem);
byId("download-all").onclick = () => downloadAll().catch((error) => complain(error.message));
byId("size").onchange = () => { byId("side-label").hidden = byId("size").value.includes("="); };

/** Only photo, chosen or by image, has a strength. */
function updateStrength() {
  const canHave = ["", "photo"].includes(byId("model").value) || byId("other-model").value === "photo";
  byId("strength-label").hidden = !canHave;
  byId("strength").disabled = !canHave || !byId("has-strength").checked;
  byId("strength-text").textContent = byId("strength").disabled ? "by image" : byId("strength").value;
}
for (const id of ["model", "other-model", "has-strength", "strength"]) byId(id).oninput = updateStrength;
updateStrength();
connect();
