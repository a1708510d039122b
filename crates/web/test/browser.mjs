// What tests and measurements in a browser need.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join } from "node:path";

const TYPES = { ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm" };

/** Serves the files of some folders, and bytes by path, on a free port of this computer. */
export async function serveFiles(folders, extra = {}) {
  const server = createServer(async (request, response) => {
    const path = new URL(request.url, "http://localhost").pathname;
    let bytes = extra[path];
    for (const folder of folders) bytes ??= await readFile(join(folder, path === "/" ? "index.html" : path)).catch(() => undefined);
    response.writeHead(bytes ? 200 : 404, { "content-type": TYPES[extname(path) || ".html"] ?? "application/octet-stream" });
    response.end(bytes);
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  return { url: `http://127.0.0.1:${server.address().port}/`, close: () => { server.closeAllConnections(); server.close(); } };
}

/** Starts the system's Chromium without a window. `require` finds playwright-core. */
export function launch(require, parameters = []) {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  return require("playwright-core").chromium.launch({ executablePath, args: ["--no-sandbox", ...parameters] });
}
