"use strict";
/** Whether a file begins as JPEG XL does: with a codestream, or with the box of a container. */
async function isJpegXl(file) {
  const start = new Uint8Array(await file.slice(0, 8).arrayBuffer());
  return [[0xff, 0x0a], [0, 0, 0, 12, 0x4a, 0x58, 0x4c, 0x20]].some((known) => known.every((byte, at) => byte === start[at]));
}

/** The engine of the page: a WebAssembly module in a Worker. It has the interface of crates/serve/src/page/engine.js. */
const engine = {
  imagesAtATime: 1,

  async describe() {
    await this.load("");
    return { ...await this.ask({}), place: "nothing leaves this computer" };
  },

  async upscale(file, query, { signal, progress }) {
    if (!this.readsJpegXl && await isJpegXl(file)) {
      await this.load("-jxl");
      this.readsJpegXl = true;
    }
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

  /** Loads the module with the instructions that this browser has. With "-jxl" it is larger and reads JPEG XL too. */
  async load(formats) {
    // Functions that use the instructions: a broadcast, and a multiply-add.
    const splat = [0x41, 0, 0xfd, 15];
    const has = (...code) => WebAssembly.validate(Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0,
      10, code.length + 4, 1, code.length + 2, 0, ...code, 11));
    if (!has(...splat)) throw new Error("this browser has no SIMD in WebAssembly; use a current one");
    const kind = has(...splat, ...splat, ...splat, 0xfd, 0x85, 2) ? "relaxedsimd" : "simd128";
    const name = `wdsr-${kind}${formats}.wasm`;
    const response = await fetch(name).catch((error) => { throw new Error(`${name} cannot be loaded: ${error.message}`); });
    if (!response.ok) throw new Error(`${name} cannot be loaded: the server answered ${response.status}`);
    this.module = await WebAssembly.compile(await response.arrayBuffer());
    this.start();
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
