"use strict";
/** The engine of the page: jobs of the server that offers it. crates/web/page/engine.js is the other one. */
const engine = {
  /** The server takes more, but a batch must not fill its queue. */
  imagesAtATime: 2,
  token: "",

  /** What runs, the models, and where images go. An error has `needsToken` if the server wants one. */
  async describe() {
    const response = await this.request("v1/models");
    if (response.status === 401) {
      throw Object.assign(new Error(this.token ? "the token is wrong" : ""), { needsToken: true });
    }
    const isLocal = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
    const place = isLocal ? "nothing leaves this computer" : "images are sent to this server";
    return { ...await (await this.checked(response)).json(), place };
  },

  /**
   * Upscales a file by the parameters of a query; calls `progress` with the share done and `wait` with the reason of
   * a wait. Returns the result as blob, its report and warnings.
   */
  async upscale(file, query, { signal, progress, wait }) {
    const form = new FormData();
    form.append("file", file);
    let created;
    while (!created) {
      const sent = this.request(`v1/jobs?${query}`, { method: "POST", body: form, signal });
      created = await sent.then(this.checked).catch(async (error) => {
        if (!error.retryAfterMs) throw error;
        wait(error.message);
        await new Promise((done) => setTimeout(done, error.retryAfterMs));
      });
    }
    const job = `v1/jobs/${(await created.json()).id}`;
    try {
      const status = await this.lastStatus(job, signal, (status) => {
        if (status.status === "queued") wait("waits"); else progress(status.progress ?? 0);
      });
      if (status.status !== "done") throw new Error(status.error?.message ?? "cancelled");
      const response = await this.checked(await this.request(`${job}/result`, { signal }));
      return { blob: await response.blob(), report: status.report, warnings: status.warnings };
    } finally {
      this.request(job, { method: "DELETE" });
    }
  },

  /** Reads the events of a job to its end. */
  async lastStatus(job, signal, show) {
    const response = await this.checked(await this.request(`${job}/events`, { signal }));
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let [text, status] = ["", null];
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return status ?? { error: { message: "the server closed the connection" } };
      const events = (text + value).split("\n\n");
      text = events.pop();
      for (const event of events.filter((event) => event.includes("data: "))) {
        status = JSON.parse(event.slice(event.indexOf("data: ") + 6));
        show(status);
      }
    }
  },

  request(path, options = {}) {
    const headers = this.token ? { authorization: `Bearer ${this.token}` } : {};
    return fetch(path, { ...options, headers });
  },

  /** The answer, or an error with the server's message. */
  async checked(response) {
    if (response.ok) return response;
    const { message } = await response.json().catch(() => ({}));
    const error = new Error(message ?? `the server answered ${response.status}`);
    error.retryAfterMs = response.status === 429 ? 1000 * (response.headers.get("retry-after") ?? 1) : null;
    throw error;
  },
};
