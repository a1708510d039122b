// Tests WebGPU in f16 on Node's Dawn, which is Chromium's WebGPU: the software in Chromium has no f16, that of newer Mesa has.
// The Worker's scripts run in this thread.
//
//     .ci/newer-mesa NODE crates/web/test/f16.mjs TOOLS PAGE
//
// TOOLS is a folder with the packages webgpu and pngjs, PAGE that of crates/web/build. Node must have JavaScript Promise
// Integration.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { runInThisContext } from "node:vm";

const [tools, page] = process.argv.slice(2);
const require = createRequire(`${resolve(tools)}/`);
const { create, globals } = await import(pathToFileURL(require.resolve("webgpu")));
const { PNG } = require("pngjs");

Object.assign(globalThis, globals, { self: globalThis, onmessage: null });
// Asked for a fallback adapter, Dawn finds none, though it marks that of Mesa as one.
const dawn = create([]);
const requestAdapter = ({ powerPreference }) => dawn.requestAdapter({ powerPreference });
Object.defineProperty(globalThis, "navigator", { value: { gpu: { requestAdapter } } });
const scripts = ["devices.js", "worker.js"].map((name) => readFile(join(page, name), "utf8"));
runInThisContext((await Promise.all(scripts)).join("\n"));
const gpu = runInThisContext("gpu");

/** The answer of the Worker, after its progress. */
function ask(message) {
  return new Promise((resolve, reject) => {
    globalThis.postMessage = ({ progress, failed, ...answer }) => {
      if (failed !== undefined) reject(new Error(failed));
      else if (progress === undefined) resolve(answer);
    };
    onmessage({ data: message });
  });
}

/** An image of 61 x 47 pixels with waves and edges. */
const [width, height] = [61, 47];
const samples = Uint8Array.from({ length: 3 * width * height }, (_, at) => {
  const [x, y, c] = [Math.floor(at / 3) % width, Math.floor(at / 3 / width), at % 3];
  return 128 + 60 * Math.sin(x * y / 40 + c) + 60 * Math.sign(Math.sin(x / 5 + y / 9));
});
const file = new File([`P6 ${width} ${height} 255\n`, samples], "waves.ppm");

async function upscale(query, device) {
  const { status, blob } = await ask({ file, query, device, workers: 1 });
  assert.equal(status.status, "done", JSON.stringify(status));
  const bytes = Buffer.from(await blob.arrayBuffer());
  return { ...status, bytes, samples: PNG.sync.read(bytes).data };
}

const difference = (one, other) => one.samples.reduce((most, value, at) => Math.max(most, Math.abs(value - other.samples[at])), 0);

const load = async (name) => WebAssembly.compile(await readFile(join(page, name)));
onmessage({ data: { module: await load("wdsr-simd128.wasm") } });
const found = await ask({ device: "software" });
console.log(`WebGPU on ${found.gpu}`);
assert.equal(found.has_f16, true, "the driver has no f16");

for (const query of ["model=base&scale=2", "model=photo&strength=0.4&scale=2", "model=small&scale=3"]) {
  const expected = await upscale(query, "cpu");
  const inF32 = await upscale(query, "software");
  const inF16 = await upscale(`${query}&precision=f16`, "software");
  for (const [precision, result] of [["f32", inF32], ["f16", inF16]]) {
    const { device, precision: used, device_warning: warning } = result.report;
    assert.deepEqual([device, used], ["WebGPU", precision], `${query}: ${warning}`);
    const most = difference(result, expected);
    console.log(`${query} in ${precision}: differs from the processor's result by ${most}`);
    assert.ok(most <= 1, `${query} in ${precision} differs by ${most}`);
  }
  assert.ok(!inF16.bytes.equals(inF32.bytes), `${query}: f16 gives what f32 gives, so f32 computed`);
  // Smaller tiles give the same file.
  const { bytes } = gpu.opened;
  gpu.opened.bytes = 40 * 40 * 64;
  const tiled = await upscale(`${query}&precision=f16`, "software");
  gpu.opened.bytes = bytes;
  assert.ok(tiled.bytes.equals(inF16.bytes), `${query}: smaller tiles give another file`);
}

// Lost amid the work: the processor computes, in f32.
const query = "model=base&scale=2";
const { compute } = gpu;
gpu.compute = (...parameters) => {
  gpu.device.destroy();
  return compute.apply(gpu, parameters);
};
const lost = await upscale(`${query}&precision=f16`, "software");
assert.match(lost.report.device_warning, /lost/);
assert.deepEqual([lost.report.device, lost.report.precision], ["CPU", "f32"]);
assert.ok(lost.bytes.equals((await upscale(query, "cpu")).bytes), "after a loss another file");
// Without a GPU f32 computes, and says so.
const without = await upscale(`${query}&precision=f16`, "cpu");
assert.match(without.warnings[0], /no GPU with f16/);
console.log("WebGPU computes in f16");
process.exit(0);
