// Tests what computes in the page: several Workers give the bits of one, and WebGPU, on the software of Chromium, gives
// what the processor gives.
//
//     node crates/web/test/devices.mjs TOOLS PAGE PROGRAM
//
// The arguments are those of page.mjs.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { launch, serveFiles } from "./browser.mjs";

const [tools, page, program] = process.argv.slice(2);
const require = createRequire(`${resolve(tools)}/`);
const folder = await mkdtemp(join(tmpdir(), "wdsr-devices-"));
const at = (name) => join(folder, name);
const run = (...parameters) => execFileSync(program, ["upscale", "--quiet", ...parameters], { stdio: "pipe" });
run("samples/chelsea.png", "--width", "330", "-o", at("rgb.png"));
run(at("rgb.png"), "--scale", "1", "-o", at("rgb.jpg"));
run("samples/chelsea.png", "--width", "97", "-o", at("small.png"));
run(at("small.png"), "--scale", "1", "-o", at("small.jpg"));

/** Opens the page; `device` is its parameter. */
async function open(browser, url, device) {
  const tab = await browser.newPage();
  tab.on("pageerror", (error) => { throw error; });
  await tab.goto(`${url}?device=${device}`);
  await tab.waitForFunction(() => document.getElementById("device").textContent.includes("nothing leaves this computer"));
  console.log(`device=${device}: ${await tab.textContent("#device")}`);
  return tab;
}

/** Upscales a file by the page's engine: the result's bytes, its report, and the shares of the progress. */
async function upscale(tab, name, query, setUp = () => {}) {
  await tab.evaluate(setUp);
  const bytes = (await readFile(at(name))).toString("base64");
  const result = await tab.evaluate(async ([name, bytes, query]) => {
    const file = new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], name);
    const shares = [];
    const options = { signal: new AbortController().signal, progress: (share) => shares.push(share), wait() {} };
    const { blob, report } = await engine.upscale(file, query, options);
    const image = await createImageBitmap(blob, { colorSpaceConversion: "none" });
    const context = new OffscreenCanvas(image.width, image.height).getContext("2d");
    context.drawImage(image, 0, 0);
    const { data } = context.getImageData(0, 0, image.width, image.height);
    const hash = (bytes) => crypto.subtle.digest("SHA-256", bytes).then((hash) => new Uint8Array(hash).join());
    window.pixels ??= {};
    const known = Object.values(window.pixels[`${name} ${query}`] ??= {})[0] ?? data;
    window.pixels[`${name} ${query}`][report.device] = data;
    const difference = data.reduce((most, value, at) => Math.max(most, Math.abs(value - known[at])), 0);
    return { hash: await hash(await blob.arrayBuffer()), report, shares, difference };
  }, [name, bytes, query]);
  // An image that a device did not compute begins again.
  const { shares, report: { device_warning: again } } = result;
  assert.ok(again || shares.every((share, at) => at === 0 || share >= shares[at - 1]), `${name} ${query}: progress ${shares}`);
  assert.equal(shares.at(-1), 1, `${name} ${query}: progress`);
  return result;
}

const IMAGES = [
  ["rgb.png", "model=base&scale=2"], ["rgb.jpg", "model=photo&strength=0.4&scale=2&format=png"],
  ["small.png", "model=small&scale=3"], ["small.png", "model=base&width=1000"],
];

/** Chromium's software takes seconds for each. */
const IMAGES_OF_GPU = [
  ["small.png", "model=base&scale=2"], ["small.jpg", "model=photo&strength=0.4&scale=2&format=png"],
  ["small.png", "model=small&scale=3"],
];

/** Several Workers give the file that one gives. */
async function testWorkers(tab) {
  for (const [name, query] of IMAGES) {
    const one = await upscale(tab, name, query, () => { engine.mostWorkers = 1; });
    assert.equal(one.report.device, "CPU", `${name}: what ran`);
    for (const workers of [2, 3]) {
      await tab.evaluate((workers) => { engine.mostWorkers = workers; }, workers);
      const several = await upscale(tab, name, query);
      assert.equal(several.report.device, `${workers} Workers`, `${name}: what ran`);
      assert.equal(several.hash, one.hash, `${name} ${query}: ${workers} Workers give another file`);
      assert.ok(several.shares.length > 4, `${name}: ${several.shares.length} reports of progress`);
    }
  }
  // A Worker that fails amid its work: the image is computed without it.
  const [name, query] = IMAGES[0];
  await tab.evaluate(() => { engine.mostWorkers = 2; });
  await onWorkers(tab, () => {
    const { compute } = others;
    others.compute = (...parameters) => {
      const values = compute.apply(others, parameters);
      setTimeout(() => others.all[0].fail("ended by a test"), 50);
      return values;
    };
  });
  const { report, difference } = await upscale(tab, name, query);
  assert.match(report.device_warning, /ended by a test/);
  assert.equal(difference, 0, "after a Worker's end");
}

/** Runs a function in the Workers that have a module. */
function onWorkers(tab, task) {
  return Promise.all(tab.workers().map((worker) => worker.evaluate(task)));
}

/** WebGPU gives what the processor gives, in tiles of any size; a device that is lost is replaced. */
async function testGpu(tab) {
  const results = new Map();
  for (const [name, query] of IMAGES_OF_GPU) {
    await upscale(tab, name, query, () => { engine.device = "cpu"; engine.mostWorkers = 1; });
    const gpu = await upscale(tab, name, query, () => { engine.device = "software"; });
    assert.equal(gpu.report.device, "WebGPU", `${name}: ${gpu.report.device_warning}`);
    console.log(`WebGPU: ${name} ${query}: ${gpu.report.seconds.toFixed(1)} s, largest difference from the processor's result: ${gpu.difference}`);
    assert.ok(gpu.difference <= 1, `${name} ${query}: differs by ${gpu.difference}`);
    results.set(name + query, gpu.hash);
  }
  // Smaller tiles give the same file.
  await onWorkers(tab, () => { if (gpu.opened) gpu.opened.bytes = 60 * 60 * 128; });
  const [name, query] = IMAGES_OF_GPU[0];
  const tiled = await upscale(tab, name, query);
  assert.equal(tiled.report.device, "WebGPU");
  assert.equal(tiled.hash, results.get(name + query), "smaller tiles give another file");
  // So do those that are made because the memory does not suffice.
  await onWorkers(tab, () => {
    if (!gpu.opened) return;
    gpu.opened.bytes = 1 << 30;
    const { compute } = gpu;
    gpu.compute = (tile, pixels) => pixels.length > 16 * 3600
      ? Promise.reject(failure(OUT_OF_MEMORY, "")) : compute.call(gpu, tile, pixels);
  });
  const parts = await upscale(tab, name, query);
  assert.equal(parts.report.device, "WebGPU", parts.report.device_warning);
  assert.equal(parts.hash, results.get(name + query), "tiles for little memory give another file");
  // Lost amid the work: the processor computes, and the next image opens the device again.
  await onWorkers(tab, () => {
    const { compute } = gpu;
    let tiles = 0;
    gpu.compute = (...parameters) => {
      if (++tiles === 2) gpu.device.destroy();
      return compute.apply(gpu, parameters);
    };
  });
  const lost = await upscale(tab, name, query);
  assert.match(lost.report.device_warning, /lost/);
  assert.equal(lost.report.device, "CPU");
  assert.ok(lost.difference <= 1, `after a loss: differs by ${lost.difference}`);
  assert.equal((await upscale(tab, name, query)).report.device, "WebGPU", "after a loss");
}

const files = await serveFiles([page]);
const browser = await launch(require, ["--enable-unsafe-webgpu"]);
try {
  // Software is never chosen by itself.
  const tab = await open(browser, files.url, "auto");
  assert.doesNotMatch(await tab.textContent("#device"), /WebGPU/);
  await testWorkers(tab);
  const onGpu = await open(browser, files.url, "software");
  assert.match(await onGpu.textContent("#device"), /^WebGPU on /);
  // It has no f16, for which there is f16.mjs.
  assert.ok(await onGpu.isHidden("#f16-label"));
  await testGpu(onGpu);
} finally {
  await browser.close();
  files.close();
}
console.log("several Workers and WebGPU give the images of one Worker");
