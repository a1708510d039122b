"use strict";
// What computes tiles while the module waits (crates/web/src/device.rs): a GPU, or other Workers of the same script.
// worker.js follows in the same script.

/** Whether the module can wait for JavaScript (JavaScript Promise Integration). */
const canWait = "Suspending" in WebAssembly;
const [DONE, PROGRESS, OUT_OF_MEMORY, LOST, FAILED] = [0, 1, -1, -2, -3];
/** The device of the current image. */
let tileDevice = null;
/** Networks and tiles by their numbers. */
const [networks, tiles] = [new Map(), new Map()];
let numbered = 0;

const failure = (status, reason) => Object.assign(new Error(reason), { status });

/** Runs work that the module waits for. Of an error it gets the status, and the message in its buffer. */
const waiting = (work) => {
  const attempt = async (...parameters) => {
    try {
      return await work(...parameters);
    } catch (error) {
      write(TEXT, encode(error.message));
      return error.status ?? FAILED;
    }
  };
  return canWait ? new WebAssembly.Suspending(attempt) : attempt;
};

const deviceImports = {
  prepare: waiting(async (start, length, bytes, bytesLength) => {
    const network = await tileDevice.prepare(text(memory(start >>> 0, length)), memory(bytes >>> 0, bytesLength).slice());
    networks.set(numbered, { ...network, device: tileDevice });
    return numbered++;
  }),
  release(number) {
    networks.get(number).device.release(number);
    networks.delete(number);
  },
  start_tile(number, start, length, pixels, pixelsLength) {
    const numbers = new Uint32Array(wasm.memory.buffer, start >>> 0, length).slice();
    const network = networks.get(number);
    const tile = { network, number, numbers, pixelsDone: 0, pixels: numbers[4] * numbers[5] };
    tile.values = (async () => network.device.compute(tile, memory(pixels >>> 0, 16 * pixelsLength)))();
    // It is reported when the module waits for the tile.
    tile.values.catch(() => {});
    tiles.set(numbered, tile);
    return numbered++;
  },
  finish_tile: waiting(async (number, to, length) => {
    const tile = tiles.get(number);
    try {
      const { progress } = tile.network.device;
      const values = await (progress ? Promise.race([tile.values, progress]) : tile.values);
      if (!values) return PROGRESS;
      new Float32Array(wasm.memory.buffer, to >>> 0, length).set(values);
    } catch (error) {
      tiles.clear();
      throw error;
    }
    tiles.delete(number);
    return DONE;
  }),
  pixels_done: () => [...tiles.values()].reduce((sum, tile) => sum + tile.pixelsDone, 0),
};

/** A GPU. */
const gpu = {
  opened: null,
  noBuffers: { pixels: 0, buffers: [] },

  /**
   * Opens the GPU, unless it is open. `choice` is "auto" for one that is not software, "software" for one that is, or "cpu".
   * Returns its name, the bytes of its largest buffer, and whether it is software and computes in f16; null if there is none.
   */
  async open(choice) {
    if (choice === "cpu" || !canWait) return null;
    if (this.opened && !this.lost) return this.opened;
    const isSoftware = choice === "software";
    const options = { powerPreference: "high-performance", forceFallbackAdapter: isSoftware };
    const adapter = await self.navigator?.gpu?.requestAdapter(options);
    if (!adapter || ((adapter.info.isFallbackAdapter ?? adapter.isFallbackAdapter) && !isSoftware)) return null;
    const { maxBufferSize, maxStorageBufferBindingSize } = adapter.limits;
    const requiredLimits = { maxBufferSize, maxStorageBufferBindingSize };
    const requiredFeatures = ["shader-f16"].filter((feature) => adapter.features.has(feature));
    const device = await adapter.requestDevice({ requiredLimits, requiredFeatures }).catch(() => null);
    if (!device) return null;
    const { info } = adapter;
    const name = info.description || info.device || [info.vendor, info.architecture].filter(Boolean).join(" ") || "a GPU";
    const bytes = Math.min(maxBufferSize, maxStorageBufferBindingSize);
    const opened = { name, bytes, isSoftware, hasF16: requiredFeatures.length > 0 };
    Object.assign(this, { device, opened, lost: null, pipelines: new Map() });
    device.lost.then(({ message, reason }) => { if (this.device === device) this.lost = message || reason; });
    return opened;
  },

  /** Runs calls, and waits for their first error. */
  async checked(calls) {
    const { device } = this;
    const kinds = ["internal", "validation", "out-of-memory"];
    kinds.forEach((kind) => device.pushErrorScope(kind));
    try {
      const result = Promise.resolve(calls(device));
      // Its failure may be that of a call, which comes first.
      result.catch(() => {});
      const errors = await Promise.all(kinds.map(() => device.popErrorScope()));
      const error = errors.find(Boolean);
      if (error) throw failure(error instanceof GPUOutOfMemoryError ? OUT_OF_MEMORY : FAILED, error.message);
      return await result;
    } catch (error) {
      // A loss is told after the calls that it fails.
      await Promise.race([device.lost, new Promise((soon) => setTimeout(soon, 100))]);
      throw this.lost ? failure(LOST, this.lost) : error;
    }
  },

  async prepare(description, weights) {
    const plan = JSON.parse(description);
    const { STORAGE, COPY_DST } = GPUBufferUsage;
    const steps = await this.checked((device) => Promise.all(plan.steps.map(async (step) => {
      const [first, end] = step.weights;
      const buffer = end > first ? device.createBuffer({ size: end - first, usage: STORAGE | COPY_DST }) : null;
      if (buffer) device.queue.writeBuffer(buffer, 0, weights, first, end - first);
      return { ...step, weights: buffer, pipeline: await this.pipeline(plan.kernels[step.kernel]) };
    })));
    return { plan, steps, set: this.noBuffers };
  },

  /** The kernel of a text, compiled once. */
  pipeline(code) {
    if (!this.pipelines.has(code)) {
      const module = this.device.createShaderModule({ code });
      this.pipelines.set(code, this.device.createComputePipelineAsync({ layout: "auto", compute: { module } }));
    }
    return this.pipelines.get(code);
  },

  release(number) {
    const { steps, set } = networks.get(number);
    [...steps.map((step) => step.weights), ...set.buffers].forEach((buffer) => buffer?.destroy());
  },

  /** Makes the buffers and bindings for tiles of so many pixels. Work is submitted in order, so one set serves all tiles. */
  createBuffers(device, network, pixels) {
    const { plan, steps, set } = network;
    set.buffers.forEach((buffer) => buffer.destroy());
    const { STORAGE, UNIFORM, COPY_DST, COPY_SRC } = GPUBufferUsage;
    const create = (size, usage) => device.createBuffer({ size, usage });
    const maps = plan.buffer_bytes.map((bytes) => create(bytes * pixels, STORAGE | COPY_DST));
    const result = create(plan.result_bytes * pixels, STORAGE | COPY_SRC);
    const tile = create(32, UNIFORM | COPY_DST);
    const bindings = steps.map(({ pipeline, source, output, weights, term }) => device.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: [tile, maps[source], maps[output] ?? result, weights, maps[term]]
        .map((buffer, binding) => ({ binding, resource: { buffer } })).filter(({ resource }) => resource.buffer),
    }));
    network.set = { pixels, buffers: [tile, result, ...maps], tile, result, image: maps[0], bindings };
  },

  async compute({ network, numbers, pixels: wanted }, pixels) {
    const { plan, steps } = network;
    const count = pixels.length / 16;
    const bytes = plan.result_bytes * wanted;
    let set = null;
    const read = await this.checked((device) => {
      if (network.set.pixels < count) this.createBuffers(device, network, count);
      ({ set } = network);
      device.queue.writeBuffer(set.tile, 0, numbers, 0, 8);
      device.queue.writeBuffer(set.image, 0, pixels);
      const read = device.createBuffer({ size: bytes, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
      let [encoder, submitted] = [device.createCommandEncoder(), 0];
      for (const [at, { pipeline, operations }] of steps.entries()) {
        if (submitted > 0 && submitted + operations * count > plan.submitted_operations) {
          device.queue.submit([encoder.finish()]);
          [encoder, submitted] = [device.createCommandEncoder(), 0];
        }
        submitted += operations * count;
        const pass = encoder.beginComputePass();
        pass.setPipeline(pipeline);
        pass.setBindGroup(0, set.bindings[at]);
        pass.dispatchWorkgroups(...numbers.subarray(8 + 3 * at, 11 + 3 * at));
        pass.end();
      }
      encoder.copyBufferToBuffer(set.result, 0, read, 0, bytes);
      device.queue.submit([encoder.finish()]);
      return read.mapAsync(GPUMapMode.READ).then(() => read);
    }).catch((error) => {
      // A tile that was started meanwhile has the buffers for which memory did not suffice.
      if (set?.isOutOfMemory && error.status !== LOST) throw failure(OUT_OF_MEMORY, error.message);
      if (error.status === OUT_OF_MEMORY && network.set === set) {
        set.isOutOfMemory = true;
        set.buffers.forEach((buffer) => buffer.destroy());
        network.set = this.noBuffers;
      }
      throw error;
    });
    const values = new Float32Array(read.getMappedRange()).slice();
    read.destroy();
    return values;
  },
};

/** Other Workers. Each computes a tile at a time. */
const others = {
  all: [],
  progress: null,

  /** Renews what a wait for progress waits for. */
  awaitProgress() {
    this.progress = new Promise((done) => { this.report = done; });
  },

  prepare(_, model) {
    return { model };
  },

  release(number) {
    for (const worker of this.all) if (worker.loaded.delete(number)) worker.postMessage({ forget: number });
  },

  /** Lets the page start another Worker, and returns the port to it. */
  create() {
    const { port1, port2 } = new MessageChannel();
    postMessage({ port: port2 }, [port2]);
    const worker = Object.assign(port1, { loaded: new Set(), tile: null });
    worker.fail = (reason) => {
      worker.close();
      this.all = this.all.filter((other) => other !== worker);
      worker.reject?.(failure(FAILED, reason));
    };
    worker.onmessage = ({ data: { progress, failed, values } }) => {
      if (progress !== undefined) {
        worker.tile.pixelsDone = progress * worker.tile.pixels;
        this.report();
        this.awaitProgress();
      } else if (failed !== undefined) {
        worker.fail(failed);
      } else {
        worker.tile = null;
        worker.resolve(values);
      }
    };
    this.all.push(worker);
    return worker;
  },

  compute(tile, pixels) {
    const worker = this.all.find((worker) => !worker.tile) ?? this.create();
    worker.tile = tile;
    const { network: { model }, number, numbers } = tile;
    if (!worker.loaded.has(number)) worker.postMessage({ load: number, model });
    worker.loaded.add(number);
    const copy = pixels.slice();
    worker.postMessage({ network: number, numbers, pixels: copy }, [copy.buffer]);
    return new Promise((resolve, reject) => Object.assign(worker, { resolve, reject }));
  },
};
others.awaitProgress();
