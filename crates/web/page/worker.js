"use strict";
// Runs the WebAssembly module (crates/web/src/exports.rs). Gets { module }, then messages to answer one after another:
// { device } asks what runs, { file, query, device, workers } for a result, whose progress is sent before. Another Worker of
// this script sends { load, model }, { forget }, and { network, numbers, pixels } for a tile's values. devices.js has what the module waits for.
const [TEXT, NAME, FILE] = [0, 1, 2];
let [wasm, messages] = [null, ""];
/** Where answers go: the page, or another Worker, whose port { port } has. */
let outlet = self;

const memory = (start, length) => new Uint8Array(wasm.memory.buffer, start, length);
const view = () => new DataView(wasm.memory.buffer);
const text = (bytes) => new TextDecoder().decode(bytes);

// What the module takes from its system: a clock, random numbers, and a place for messages of a crash. It has no files.
const BAD_FILE = 8;
const system = {
  clock_time_get(_clock, _precision, to) {
    view().setBigUint64(to, BigInt(Math.round(performance.now() * 1e6)), true);
    return 0;
  },
  random_get(start, length) {
    crypto.getRandomValues(memory(start, length));
    return 0;
  },
  environ_sizes_get(count, bytes) {
    view().setUint32(count, 0, true);
    view().setUint32(bytes, 0, true);
    return 0;
  },
  environ_get: () => 0,
  fd_write(_file, parts, count, written) {
    let total = 0;
    for (let at = parts; at < parts + 8 * count; at += 8) {
      const [start, length] = [view().getUint32(at, true), view().getUint32(at + 4, true)];
      messages += text(memory(start, length));
      total += length;
    }
    view().setUint32(written, total, true);
    return 0;
  },
  proc_exit(code) { throw new Error(`the engine ended with ${code}`); },
};
const imports = {
  wasi_snapshot_preview1: new Proxy(system, { get: (known, name) => known[name] ?? (() => BAD_FILE) }),
  wdsr: { progress: (done) => outlet.postMessage({ progress: done }), ...deviceImports },
};

function write(buffer, bytes) {
  const start = wasm.reserve(buffer, bytes.length) >>> 0;
  if (start === 0) throw new Error(`there is not enough memory for a file of ${bytes.length} bytes`);
  memory(start, bytes.length).set(bytes);
}

function read(buffer) {
  // Addresses are signed numbers in JavaScript.
  return memory(wasm.start(buffer) >>> 0, wasm.len(buffer) >>> 0);
}

const encode = (string) => new TextEncoder().encode(string);

/** Answers of a Worker that computes tiles for another one. */
function answerWorker({ load, model, forget, network, numbers, pixels }) {
  if (forget !== undefined) return void wasm.forget(forget);
  write(FILE, model ?? pixels);
  if (model) wasm.load(load);
  else wasm.compute(network, numbers[0], numbers[2], numbers[3], numbers[4], numbers[5]);
  const message = text(read(TEXT));
  if (message) throw new Error(message);
  return model ? null : { values: new Float32Array(read(FILE).slice().buffer) };
}

async function answer(data) {
  const { module, file, query, device, workers } = data;
  if (module) {
    wasm = (await WebAssembly.instantiate(module, imports)).exports;
    wasm._initialize?.();
    return null;
  }
  if (device === undefined) return answerWorker(data);
  const opened = await gpu.open(device);
  if (!file) {
    wasm.describe();
    return { ...JSON.parse(text(read(TEXT))), gpu: opened?.name, has_f16: opened?.hasF16 ?? false, canWait };
  }
  write(TEXT, encode(query));
  write(NAME, encode(file.name));
  write(FILE, new Uint8Array(await file.arrayBuffer()));
  const upscale = canWait ? WebAssembly.promising(wasm.upscale) : wasm.upscale;
  tileDevice = opened ? gpu : others;
  await upscale(workers, opened?.bytes ?? 0, opened?.isSoftware ?? false, opened?.hasF16 ?? false);
  const status = JSON.parse(text(read(TEXT)));
  return { status, blob: new Blob([read(FILE)], { type: status.media_type }) };
}

let before = Promise.resolve();
onmessage = ({ data }) => {
  if (data.port) {
    outlet = data.port;
    outlet.onmessage = onmessage;
    return;
  }
  before = before.then(() => answer(data)).then((result) => {
    if (result) outlet.postMessage(result, result.values ? [result.values.buffer] : []);
  }).catch((error) => {
    // A crash says why in its message.
    outlet.postMessage({ failed: messages.trim() || error.message });
  });
};
