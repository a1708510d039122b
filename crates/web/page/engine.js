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
  /** Most Workers that compute an image; 1 if the module cannot wait for others. */
  mostWorkers: 1,
  /** What computes: "auto" (a GPU, else the processor), "cpu", or "software" for a GPU that is imitated. */
  device: new URLSearchParams(location.search).get("device") ?? "auto",
  /** Images under way. */
  images: 0,
  /** Images that a GPU did not compute, though it should have. After a few it is not tried again. */
  failures: 0,

  async describe() {
    // Workers start without a network.
    const scripts = await Promise.all(["devices.js", "worker.js"].map(async (name) => (await this.fetch(name)).blob()));
    this.script = URL.createObjectURL(new Blob(scripts, { type: "text/javascript" }));
    this.module = await this.load("");
    const found = await this.ask(this.start(this.module), { device: this.device });
    if (found.canWait) this.mostWorkers = Math.min(navigator.hardwareConcurrency, 8);
    // One computes while the other is read or written.
    if (found.gpu) this.imagesAtATime = 2;
    return { ...found, threads: this.mostWorkers, place: "nothing leaves this computer" };
  },

  async upscale(file, query, { signal, progress }) {
    this.images += 1;
    try {
      const module = await isJpegXl(file) ? await this.largerModule() : this.module;
      signal.throwIfAborted();
      const at = this.idle.findIndex((worker) => worker.module === module);
      const worker = at < 0 ? this.start(module) : this.idle.splice(at, 1)[0];
      const workers = Math.max(1, Math.floor(this.mostWorkers / this.images));
      const device = this.failures < 3 ? this.device : "cpu";
      const message = { file, query: query.toString(), device, workers };
      const { status, blob } = await this.ask(worker, message, signal, progress);
      if (status.status !== "done") throw new Error(status.error.message);
      const { report } = status;
      if (report.device === "Workers") report.device = `${workers} Workers`;
      if (report.device_warning) {
        // What the Worker knows of the device is not true any more.
        this.failures += 1;
        this.idle = this.idle.filter((other) => other !== worker);
        this.end(worker);
      }
      return { blob, report, warnings: status.warnings };
    } finally {
      this.images -= 1;
    }
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
    const worker = Object.assign(new Worker(this.script), { module, others: [] });
    worker.postMessage({ module });
    return worker;
  },

  /** Starts a Worker that computes tiles for another one, which has the other end of the port. */
  startOther(worker, port) {
    const other = this.start(worker.module);
    other.onerror = (event) => worker.onerror(event);
    other.postMessage({ port }, [port]);
    worker.others.push(other);
  },

  end(worker) {
    for (const one of [worker, ...worker.others]) one.terminate();
  },

  /** Sends a message to a Worker, and returns its answer. */
  ask(worker, message, signal, progress) {
    return new Promise((resolve, reject) => {
      // It computes without a pause, and after a crash its memory is in an unknown state: so it ends with its image.
      const fail = (error) => { this.end(worker); reject(error); };
      const stop = () => fail(signal.reason);
      signal?.addEventListener("abort", stop);
      worker.onmessage = ({ data }) => {
        if (data.port) return this.startOther(worker, data.port);
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
