"use strict";
// Images in the order of their choice; `job` is set while the server works on one.
const items = [];
/** What the viewer shows, in the order of the results. */
const shown = [];
/** Jobs that run at a time; the server takes more, but a batch must not fill its queue. */
const AT_A_TIME = 2;
let token = "";
let [running, limits] = [0, null];

function request(path, options = {}) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  return fetch(path, { ...options, headers });
}

/** The answer, or an error with the server's message. */
async function checked(response) {
  if (response.ok) return response;
  const { message } = await response.json().catch(() => ({}));
  const error = new Error(message ?? `the server answered ${response.status}`);
  error.retryAfterMs = response.status === 429 ? 1000 * (response.headers.get("retry-after") ?? 1) : null;
  throw error;
}

function show(element, text, isError) {
  element.textContent = text;
  element.classList.toggle("error", isError);
}

function complain(text) {
  byId("message").textContent = text;
  byId("message").hidden = !text;
}

async function loadModels() {
  const response = await request("v1/models");
  byId("token-form").hidden = response.status !== 401;
  if (response.status === 401) return complain(token ? "the token is wrong" : "");
  limits = await (await checked(response)).json();
  complain("");
  const isLocal = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
  byId("device").textContent = `${limits.device}, ${limits.threads} threads, ${limits.instruction_set}`
    + (isLocal ? "; nothing leaves this computer" : "; images are sent to this server");
  const kinds = [...new Set(limits.models.map((model) => model.kind))];
  byId("model").append(...kinds.map((kind) => new Option(kind, kind)));
  next();
}

/** The parameters as chosen, for an image. */
function query() {
  const size = byId("size").value;
  const parameters = new URLSearchParams(size.includes("=") ? size : { [size]: byId("side").value });
  for (const name of ["model", "format"]) if (byId(name).value) parameters.set(name, byId(name).value);
  if (!byId("strength").disabled) parameters.set("strength", byId("strength").value);
  return parameters;
}

function add(files) {
  for (const file of files) {
    const row = document.createElement("li");
    const [name, state] = ["name", "state"].map((kind) => {
      const part = document.createElement("span");
      part.className = kind;
      row.append(part);
      return part;
    });
    name.textContent = file.name;
    show(state, "waits", false);
    const bar = document.createElement("progress");
    bar.max = 1;
    bar.setAttribute("aria-label", `Progress of ${file.name}`);
    const cancel = document.createElement("button");
    cancel.textContent = "Cancel";
    cancel.setAttribute("aria-label", `Cancel ${file.name}`);
    row.append(bar, cancel);
    byId("list").append(row);
    const item = { file, row, state, bar, query: query(), stop: new AbortController(), hasEnded: false };
    cancel.onclick = () => cancelItem(item);
    items.push(item);
  }
  next();
}

function cancelItem(item) {
  if (item.hasEnded) return;
  item.stop.abort();
  if (item.job) request(item.job, { method: "DELETE" });
  if (!item.isRunning) end(item, "cancelled", false);
}

/** Starts images while fewer than AT_A_TIME run. */
function next() {
  for (const item of items) {
    if (!limits || running >= AT_A_TIME) break;
    if (item.hasEnded || item.isRunning) continue;
    item.isRunning = true;
    running += 1;
    work(item).catch((error) => {
      const isCancelled = item.stop.signal.aborted;
      end(item, isCancelled ? "cancelled" : error.message, !isCancelled);
    }).finally(() => { running -= 1; next(); });
  }
  const [ended, all] = [items.filter((item) => item.hasEnded).length, items.length];
  byId("batch").hidden = all < 2;
  byId("cancel-all").hidden = ended === all;
  byId("batch-progress").value = ended / Math.max(all, 1);
  byId("batch-text").textContent = `${ended} of ${all} images`;
}

function end(item, text, isError) {
  item.hasEnded = true;
  item.row.querySelector("progress")?.remove();
  item.row.querySelector("button")?.remove();
  show(item.state, text, isError);
  next();
}

async function work(item) {
  const { file, stop: { signal } } = item;
  const form = new FormData();
  form.append("file", file);
  show(item.state, "is sent", false);
  const send = () => request(`v1/jobs?${item.query}`, { method: "POST", body: form, signal }).then(checked);
  let created;
  while (!created) {
    created = await send().catch(async (error) => {
      if (!error.retryAfterMs) throw error;
      show(item.state, error.message, false);
      await new Promise((done) => setTimeout(done, error.retryAfterMs));
    });
  }
  item.job = `v1/jobs/${(await created.json()).id}`;
  const status = await lastStatus(item);
  if (status.status !== "done") throw new Error(status.error?.message ?? "cancelled");
  const response = await checked(await request(`${item.job}/result`, { signal }));
  const blob = await response.blob();
  request(item.job, { method: "DELETE" });
  item.job = null;
  const { report, warnings } = status;
  const model = report.model ? `, ${report.model}` : "";
  const strength = report.strength == null ? "" : ` at strength ${report.strength.toFixed(2)}`;
  const damage = report.damage ? ` (${report.damage})` : "";
  const size = `${report.width_px} × ${report.height_px}`;
  end(item, [`${size}${model}${strength}${damage}, ${report.seconds.toFixed(1)} s`, ...warnings.map((w) => `dropped ${w}`)]
    .join("; "), false);
  const suffix = { "image/jpeg": "jpg", "image/tiff": "tif" }[blob.type] ?? blob.type.split("/")[1];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${file.name.replace(/\.[^.]*$/, "")}-upscaled.${suffix}`;
  link.textContent = "Download";
  link.setAttribute("aria-label", `Download ${link.download}`);
  item.row.append(link);
  await offerComparison(item, link.href, report);
}

/** Reads the events of a job to its end. */
async function lastStatus(item) {
  const response = await checked(await request(`${item.job}/events`, { signal: item.stop.signal }));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let [text, status] = ["", null];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return status ?? { error: { message: "the server closed the connection" } };
    const events = (text + value).split("\n\n");
    text = events.pop();
    for (const event of events.filter((event) => event.includes("data: "))) {
      status = JSON.parse(event.slice(event.indexOf("data: ") + 6));
      if (status.progress > 0) item.bar.value = status.progress;
      show(item.state, status.status === "queued" ? "waits" : `${Math.round(100 * (status.progress ?? 0))} %`, false);
    }
  }
}

/** Adds the image and its result to the viewer, if the browser can show both. */
async function offerComparison(item, url, report) {
  const original = URL.createObjectURL(item.file);
  const sizes = await Promise.all([original, url].map(async (source) => {
    const image = new Image();
    image.src = source;
    await image.decode();
    return { width_px: image.naturalWidth, height_px: image.naturalHeight };
  })).catch(() => null);
  if (!sizes) {
    item.state.textContent += "; this browser cannot show it here";
    return;
  }
  const labels = [item.file.name, `upscaled (${report.model ?? "no model"})`];
  const images = sizes.map((size, at) => ({ ...size, label: labels[at], notes: [] }));
  const at = shown.push({ name: item.file.name, images, urls: [original, url] }) - 1;
  byId("viewer").hidden = false;
  showSets(shown, (set, image) => shown[set].urls[image], at === 0 ? 0 : state.set);
  const compare = document.createElement("button");
  compare.textContent = "Compare";
  compare.setAttribute("aria-label", `Compare ${item.file.name}`);
  compare.onclick = () => { showSet(at); byId("viewer").scrollIntoView({ behavior: "smooth" }); };
  item.row.append(compare);
}

byId("token-form").onsubmit = (event) => {
  event.preventDefault();
  token = byId("token").value.trim();
  loadModels().catch((error) => complain(error.message));
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
byId("size").onchange = () => { byId("side-label").hidden = byId("size").value.includes("="); };

/** Only photo, chosen or by image, has a strength. */
function updateStrength() {
  const canHave = ["", "photo"].includes(byId("model").value);
  byId("strength-label").hidden = !canHave;
  byId("strength").disabled = !canHave || !byId("has-strength").checked;
  byId("strength-text").textContent = byId("strength").disabled ? "by image" : byId("strength").value;
}
for (const id of ["model", "has-strength", "strength"]) byId(id).oninput = updateStrength;
updateStrength();
loadModels().catch((error) => complain(error.message));
