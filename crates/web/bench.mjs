// Times the engine of the page against onnxruntime-web (WebAssembly, SIMD), one thread each, in turn.
//
//     node crates/web/bench.mjs BROWSER-TOOLS PAGE MODEL.onnx [--chromium]
//
// BROWSER-TOOLS is the folder of node_modules (crates/web/test installs it), PAGE a folder of crates/web/build, MODEL
// `wdsr convert` of the built-in model base x2. In Node, or with --chromium in a headless one.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import vm from "node:vm";
import { serveFiles, launch } from "./test/browser.mjs";

/** Runs in Node and in a page. `upscale` takes the bytes of a BMP file, and returns the seconds of its report. */
async function measure(ort, model, upscale, sizes, rounds) {
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
  const median = (times) => times.sort((a, b) => a - b)[Math.floor(times.length / 2)];
  const results = [];
  for (const side of sizes) {
    const pixels = Float32Array.from({ length: 3 * side * side }, (_, at) => (at * 7919 % 256) / 255);
    const input = new ort.Tensor("float32", pixels, [1, 3, side, side]);
    const file = new Uint8Array(54 + 3 * side * side).map((_, at) => at * 7919 % 256);
    // Widths are multiples of 4, so rows need no filling.
    const head = new DataView(file.buffer);
    file.fill(0, 0, 54);
    file.set([0x42, 0x4d]);
    for (const [at, value] of [[2, file.length], [10, 54], [14, 40], [18, side], [22, side]]) head.setUint32(at, value, true);
    for (const [at, value] of [[26, 1], [28, 24]]) head.setUint16(at, value, true);
    const times = { wdsr: [], ort: [] };
    for (let round = -2; round < rounds; round += 1) {
      const ours = await upscale(file);
      const started = performance.now();
      await session.run({ input });
      const theirs = (performance.now() - started) / 1000;
      if (round >= 0) { times.wdsr.push(ours); times.ort.push(theirs); }
    }
    results.push({ side, wdsr: 1000 * median(times.wdsr), ort: 1000 * median(times.ort) });
  }
  return results;
}

const [tools, page, modelPath, where] = process.argv.slice(2);
const [sizes, rounds, query] = [[128, 256], 5, "model=base&scale=2&format=bmp"];
const model = new Uint8Array(await readFile(modelPath));
const { version } = JSON.parse(await readFile(`${tools}/node_modules/onnxruntime-web/package.json`, "utf8"));
const require = createRequire(`${process.cwd()}/${tools}/`);
let [results, kind] = [null, "relaxedsimd"];
if (where === "--chromium") {
  const server = await serveFiles([page, `${tools}/node_modules/onnxruntime-web/dist`], { "/model.onnx": model });
  const browser = await launch(require);
  // onnxruntime-web starts its module by ways that the page forbids.
  const tab = await browser.newPage({ bypassCSP: true });
  await tab.goto(server.url);
  await tab.waitForFunction(() => document.getElementById("device").textContent.includes("thread"));
  kind = await tab.textContent("#device");
  await tab.addScriptTag({ url: "/ort.wasm.min.js" });
  results = await tab.evaluate(async ([source, query, sizes, rounds]) => {
    const measure = new Function(`return ${source}`)();
    const model = new Uint8Array(await (await fetch("/model.onnx")).arrayBuffer());
    const upscale = async (bytes) => {
      const options = { signal: new AbortController().signal, progress() {}, wait() {} };
      return (await engine.upscale(new File([bytes], "a.bmp"), query, options)).report.seconds;
    };
    return measure(ort, model, upscale, sizes, rounds);
  }, [`${measure}`, query, sizes, rounds]);
  await browser.close();
  server.close();
} else {
  // The Worker's script, with its globals.
  let answered = null;
  globalThis.onmessage = null;
  globalThis.postMessage = (data) => { if (data.progress === undefined) answered(data); };
  vm.runInThisContext(await readFile(`${page}/worker.js`, "utf8"));
  const ask = (data) => new Promise((resolve) => { answered = resolve; globalThis.onmessage({ data }); });
  globalThis.onmessage({ data: { module: await WebAssembly.compile(await readFile(`${page}/wdsr-${kind}.wasm`)) } });
  kind = (await ask({})).instruction_set;
  const upscale = async (bytes) => (await ask({ file: new File([bytes], "a.bmp"), query })).status.report.seconds;
  const ort = (await import(pathToFileURL(require.resolve("onnxruntime-web/wasm")))).default;
  results = await measure(ort, model, upscale, sizes, rounds);
}
console.log(`${kind}; onnxruntime-web ${version}; medians of ${rounds}`);
for (const { side, wdsr, ort } of results) {
  console.log(`${side}x${side}: wdsr ${wdsr.toFixed(1)} ms, onnxruntime-web ${ort.toFixed(1)} ms: ${(ort / wdsr).toFixed(2)} times as fast`);
}
