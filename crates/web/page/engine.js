"use strict";
/** The engine of the page: a WebAssembly module in a Worker. It has the interface of crates/serve/src/page/engine.js. */
const engine = {
  imagesAtATime: 1,

  async describe() {
    this.module = await this.compile();
    this.start();
    return { ...await this.ask({}), place: "nothing leaves this computer" };
  },

  async upscale(file, query, { signal, progress }) {
    signal.throwIfAborted();
    // The Worker computes without a pause, so it ends with its image.
    const stop = () => { this.start(); this.reject(signal.reason); };
    signal.addEventListener("abort", stop);
    try {
      const { status, blob } = await this.ask({ file, query: query.toString() }, progress);
      if (status.status !== "done") throw new Error(status.error.message);
      return { blob, report: status.report, warnings: status.warnings };
    } finally {
      signal.removeEventListener("abort", stop);
    }
  },

  /** The module with the instructions that this browser has. */
  async compile() {
    // Functions that use the instructions: a broadcast, and a multiply-add.
    const splat = [0x41, 0, 0xfd, 15];
    const has = (...code) => WebAssembly.validate(Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0,
      10, code.length + 4, 1, code.length + 2, 0, ...code, 11));
    if (!has(...splat)) throw new Error("this browser has no SIMD in WebAssembly; use a current one");
    const kind = has(...splat, ...splat, ...splat, 0xfd, 0x85, 2) ? "relaxedsimd" : "simd128";
    const response = await fetch(`wdsr-${kind}.wasm`);
    if (!response.ok) throw new Error(`wdsr-${kind}.wasm: the server answered ${response.status}`);
    return WebAssembly.compile(await response.arrayBuffer());
  },

  /** Starts a Worker in place of the one before. */
  start() {
    this.worker?.terminate();
    this.worker = new Worker("worker.js");
    this.worker.postMessage({ module: this.module });
  },

  /** Sends a message to the Worker, and returns its answer. */
  ask(message, progress) {
    return new Promise((resolve, reject) => {
      this.reject = reject;
      this.worker.onmessage = ({ data }) => {
        if (data.progress !== undefined) return progress(data.progress);
        if (data.failed === undefined) return resolve(data);
        // Its memory is in an unknown state.
        this.start();
        reject(new Error(data.failed));
      };
      this.worker.onerror = (event) => { this.start(); reject(new Error(event.message || "worker.js cannot be loaded")); };
      this.worker.postMessage(message);
    });
  },
};
