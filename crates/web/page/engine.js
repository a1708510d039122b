"use strict";
/** Whether a file begins as JPEG XL does: with a codestream, or with the box of a container. */
async function isJpegXl(file) {
  const start = new Uint8Array(await file.slice(0, 8).arrayBuffer());
  return [[0xff, 0x0a], [0, 0, 0, 12, 0x4a, 0x58, 0x4c, 0x20]].some((known) => known.every((byte, at) => byte === start[at]));
}

/** The engine of the page: WebAssembly modules in Workers. It has the interface of crates/serve/src/page/engine.js. */
const engine = {
  /** An image has a Worker, and so a thread. The limit is for their memory. */
  imagesAtATime: Math.min(navigator.hardwareConcurrency, 4),
  /** Workers that wait for an image, each with its `module`. */
  idle: [],

  async describe() {
    // Workers start without a network.
    const script = await (await this.fetch("worker.js")).blob();
    this.script = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
    this.module = await this.load("");
    return { ...await this.ask(this.start(this.module), {}), place: "nothing leaves this computer" };
  },

  async upscale(file, query, { signal, progress }) {
    const module = await isJpegXl(file) ? await this.largerModule() : this.module;
    signal.throwIfAborted();
    const at = this.idle.findIndex((worker) => worker.module === module);
    const worker = at < 0 ? this.start(module) : this.idle.splice(at, 1)[0];
    const { status, blob } = await this.ask(worker, { file, query: query.toString() }, signal, progress);
    if (status.status !== "done") throw new Error(status.error.message);
    return { blob, report: status.report, warnings: status.warnings };
  },

  /** The module that reads JPEG XL too. */
  async largerModule() {
    this.larger ??= this.load("-jxl");
    return this.larger.catch((error) => { this.larger = null; throw error; });
  },

  /** The module with the instructions that this browser has; with "-jxl" the larger one. */
  async load(formats) {
    // Functions that use the instructions: a broadcast, and a multiply-add.
    const splat = [0x41, 0, 0xfd, 15];
    const has = (...code) => WebAssembly.validate(Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0,
      10, code.length + 4, 1, code.length + 2, 0, ...code, 11));
    if (!has(...splat)) throw new Error("this browser has no SIMD in WebAssembly; use a current one");
    const kind = has(...splat, ...splat, ...splat, 0xfd, 0x85, 2) ? "relaxedsimd" : "simd128";
    return WebAssembly.compile(await (await this.fetch(`wdsr-${kind}${formats}.wasm`)).arrayBuffer());
  },

  async fetch(name) {
    const response = await fetch(name).catch((error) => { throw new Error(`${name} cannot be loaded: ${error.message}`); });
    if (!response.ok) throw new Error(`${name} cannot be loaded: the server answered ${response.status}`);
    return response;
  },

  start(module) {
    const worker = Object.assign(new Worker(this.script), { module });
    worker.postMessage({ module });
    return worker;
  },

  /** Sends a message to a Worker, and returns its answer. */
  ask(worker, message, signal, progress) {
    return new Promise((resolve, reject) => {
      // It computes without a pause, and after a crash its memory is in an unknown state: so it ends with its image.
      const fail = (error) => { worker.terminate(); reject(error); };
      const stop = () => fail(signal.reason);
      signal?.addEventListener("abort", stop);
      worker.onmessage = ({ data }) => {
        if (data.progress !== undefined) return progress(data.progress);
        signal?.removeEventListener("abort", stop);
        if (data.failed !== undefined) return fail(new Error(data.failed));
        this.idle.push(worker);
        resolve(data);
      };
      worker.onerror = (event) => fail(new Error(event.message || "a Worker cannot be started"));
      worker.postMessage(message);
    });
  },
};
