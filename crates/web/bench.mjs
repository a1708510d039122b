// Times the engine of the page against onnxruntime-web (WebAssembly, SIMD), one thread each, in turn; or one Worker
// against several.
//
//     node crates/web/bench.mjs BROWSER-TOOLS PAGE MODEL.onnx [--chromium]
//     node crates/web/bench.mjs BROWSER-TOOLS PAGE --workers
//
// BROWSER-TOOLS is the folder of node_modules (crates/web/test installs it), PAGE a folder of crates/web/build, MODEL
// `wdsr convert` of the built-in model base x2. In Node, or with --chromium or --workers in a headless one.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import vm from "node:vm";
import { serveFiles, launch } from "./test/browser.mjs";

const [tools, page, modelPath, where] = process.argv.slice(2);
const [sizes, rounds, query] = [[128, 256], 5, "model=base&scale=2&format=bmp"];
const require = createRequire(`${process.cwd()}/${tools}/`);
const median = (times) => times.sort((a, b) => a - b)[Math.floor(times.length / 2)];

/** Prints times of an image by one Worker and by several, in turn, in Chromium. */
async function measureWorkers() {
  const server = await serveFiles([page]);
  const browser = await launch(require);
  const tab = await browser.newPage();
  await tab.goto(server.url);
  await tab.waitForFunction(() => document.getElementById("device").textContent.includes("thread"));
  console.log(`${await tab.textContent("#device")}; medians of ${rounds}`);
  for (const [width, height] of [[256, 256], [640, 480], [1280, 720]]) {
    const times = await tab.evaluate(async ([width, height, rounds]) => {
      const { data } = Object.assign(new ImageData(width, height));
      data.forEach((_, at) => { data[at] = at % 4 === 3 ? 255 : (at * 7919) % 256; });
      const canvas = new OffscreenCanvas(width, height);
      canvas.getContext("2d").putImageData(new ImageData(data, width, height), 0, 0);
      const file = new File([await canvas.convertToBlob({ type: "image/jpeg" })], "a.jpg");
      const most = engine.mostWorkers;
      const times = Object.fromEntries([1, most].map((workers) => [workers, []]));
      for (let round = -1; round < rounds; round += 1) {
        for (const workers of Object.keys(times)) {
          engine.mostWorkers = Number(workers);
          const started = performance.now();
          const options = { signal: new AbortController().signal, progress() {}, wait() {} };
          await engine.upscale(file, "model=base&scale=2&format=bmp", options);
          if (round >= 0) times[workers].push(performance.now() - started);
        }
      }
      engine.mostWorkers = most;
      return times;
    }, [width, height, rounds]);
    const [one, several] = Object.values(times).map(median);
    const workers = Object.keys(times).at(-1);
    console.log(`${width}x${height}: 1 Worker ${one.toFixed(0)} ms, ${workers} Workers ${several.toFixed(0)} ms: ${(one / several).toFixed(2)} times as fast`);
  }
  await browser.close();
  server.close();
}

/** Runs in Node and in a page. `upscale` takes the bytes of a BMP file, and returns the seconds of its report. */
async function measure(ort, model, upscale, sizes, rounds) {
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
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
    results.push({ side, times });
  }
  return results;
}

if (modelPath === "--workers") {
  await measureWorkers();
  process.exit();
}
const model = new Uint8Array(await readFile(modelPath));
const { version } = JSON.parse(await readFile(`${tools}/node_modules/onnxruntime-web/package.json`, "utf8"));
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
    Object.assign(engine, { device: "cpu", mostWorkers: 1 });
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
  globalThis.self = globalThis;
  globalThis.postMessage = (data) => { if (data.progress === undefined) answered(data); };
  for (const script of ["devices.js", "worker.js"]) vm.runInThisContext(await readFile(`${page}/${script}`, "utf8"));
  const ask = (data) => new Promise((resolve) => { answered = resolve; globalThis.onmessage({ data }); });
  globalThis.onmessage({ data: { module: await WebAssembly.compile(await readFile(`${page}/wdsr-${kind}.wasm`)) } });
  kind = (await ask({ device: "cpu" })).instruction_set;
  const upscale = async (bytes) => (await ask({ file: new File([bytes], "a.bmp"), query, device: "cpu", workers: 1 })).status.report.seconds;
  const ort = (await import(pathToFileURL(require.resolve("onnxruntime-web/wasm")))).default;
  results = await measure(ort, model, upscale, sizes, rounds);
}
console.log(`${kind}; onnxruntime-web ${version}; medians of ${rounds}`);
for (const { side, times } of results) {
  const [wdsr, ort] = [1000 * median(times.wdsr), 1000 * median(times.ort)];
  console.log(`${side}x${side}: wdsr ${wdsr.toFixed(1)} ms, onnxruntime-web ${ort.toFixed(1)} ms: ${(ort / wdsr).toFixed(2)} times as fast`);
}
