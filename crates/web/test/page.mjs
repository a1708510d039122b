// Tests the page in a headless Chromium, with the engine in the browser and with that of a server.
//
//     node crates/web/test/page.mjs TOOLS PAGE PROGRAM [SCREENSHOTS]
//
// TOOLS has node_modules with playwright-core and axe-core, PAGE is a folder of crates/web/build, PROGRAM the program
// with its server. Screenshots are written to a folder, if one is given.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtemp, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { crc32, deflateSync } from "node:zlib";
import { launch, serveFiles } from "./browser.mjs";

const [tools, page, program, screenshots] = process.argv.slice(2);
const require = createRequire(`${resolve(tools)}/`);
const axe = await readFile(require.resolve("axe-core/axe.min.js"), "utf8");
const folder = await mkdtemp(join(tmpdir(), "wdsr-page-"));
const at = (name) => join(folder, name);
const run = (...parameters) => execFileSync(program, ["upscale", "--quiet", ...parameters], { stdio: "pipe" });

/** A PNG of 16 bits with EXIF. */
function deepPng(width, height) {
  const chunk = (name, data) => {
    const body = Buffer.concat([Buffer.from(name), data]);
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    sum.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, sum]);
  };
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([16, 2], 8);
  const rows = Buffer.alloc(height * (1 + 6 * width));
  for (let y = 0; y < height; y += 1) {
    for (let i = 0; i < 3 * width; i += 1) rows.writeUInt16BE((y * 2221 + i * 797) % 65536, y * (1 + 6 * width) + 1 + 2 * i);
  }
  // A TIFF directory of one entry: the artist.
  const exif = Buffer.from("49492a000800000001003b010200040000005744535200000000", "hex");
  const signature = Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]);
  return Buffer.concat([signature, chunk("IHDR", head), chunk("eXIf", exif), chunk("IDAT", deflateSync(rows)), chunk("IEND", Buffer.alloc(0))]);
}

run("samples/chelsea.png", "--width", "90", "-o", at("small.png"));
run("samples/chelsea.png", "--width", "1600", "-o", at("large.png"));
run(at("small.png"), "--model", "base", "--scale", "2", "-o", at("expected.png"));
run("crates/image/tests/jxl/rgb8.jxl", "--model", "base", "--scale", "2", "-o", at("expected-jxl.png"));
await writeFile(at("deep.png"), deepPng(40, 30));
await writeFile(at("notes.png"), "not an image");

/** Largest difference of two PNG files' samples, as the browser decodes them. */
function difference(tab, files) {
  return tab.evaluate(async (files) => {
    const [a, b] = await Promise.all(files.map(async (file) => {
      const bytes = Uint8Array.from(atob(file), (c) => c.charCodeAt(0));
      const image = await createImageBitmap(new Blob([bytes]), { colorSpaceConversion: "none" });
      const context = new OffscreenCanvas(image.width, image.height).getContext("2d");
      context.drawImage(image, 0, 0);
      return context.getImageData(0, 0, image.width, image.height).data;
    }));
    if (a.length !== b.length) return Infinity;
    return a.reduce((most, value, at) => Math.max(most, Math.abs(value - b[at])), 0);
  }, files.map((file) => file.toString("base64")));
}

async function test(name, url, browser) {
  const isServer = name === "server";
  const context = await browser.newContext({ acceptDownloads: true });
  const tab = await context.newPage();
  const [outside, errors] = [[], []];
  tab.on("request", (request) => { if (!request.url().startsWith(url) && !request.url().startsWith("blob:")) outside.push(request.url()); });
  // Browsers ask for an icon, which the page does without.
  const isIcon = (message) => message.location().url.endsWith("/favicon.ico");
  tab.on("console", (message) => { if (message.type() === "error" && !isIcon(message)) errors.push(message.text()); });
  tab.on("pageerror", (error) => errors.push(error.message));
  await tab.goto(url);
  await tab.waitForFunction(() => document.getElementById("device").textContent.includes("nothing leaves this computer"));
  console.log(`${name}: ${await tab.textContent("#device")}`);
  const accessible = async (what) => {
    const found = await tab.evaluate(`${axe}; axe.run()`);
    assert.deepEqual(found.violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)]), [], `${what}: axe`);
  };
  await accessible("start");
  const row = (number) => tab.locator("#list li").nth(number);
  const ended = (number) => tab.waitForFunction((number) => items[number]?.hasEnded, number, { timeout: 180000 });
  const download = async (locator) => {
    const [file] = await Promise.all([tab.waitForEvent("download"), locator.click()]);
    return { name: file.suggestedFilename(), bytes: await readFile(await file.path()) };
  };

  // A dropped file; pixels as the program's.
  await tab.selectOption("#model", "base");
  const small = await readFile(at("small.png"));
  await tab.evaluate((file) => {
    const data = new DataTransfer();
    data.items.add(new File([Uint8Array.from(atob(file), (c) => c.charCodeAt(0))], "small.png"));
    document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true }));
  }, small.toString("base64"));
  await ended(0);
  const result = await download(row(0).getByRole("link"));
  assert.equal(result.name, "small-upscaled.png");
  const expected = await readFile(at("expected.png"));
  const most = await difference(tab, [result.bytes, expected]);
  console.log(`${name}: largest difference from the program's result: ${most}`);
  assert.ok(most <= (isServer ? 0 : 1), `differs by ${most}`);
  assert.match(await row(0).locator(".state").textContent(), /^180 × \d+, base, (CPU|\d Workers), \d+\.\d s$/);

  // The divider by keyboard, 1:1, and the grid of pixels.
  const clip = () => tab.evaluate(() => document.getElementById("over").style.clipPath);
  const before = await clip();
  await tab.focus("#divider");
  await tab.keyboard.press("End");
  assert.notEqual(await clip(), before, "the divider moves");
  await tab.keyboard.press("Home");
  await tab.click("#one");
  assert.equal(await tab.textContent("#zoom"), "100 %");
  for (let step = 0; step < 3; step += 1) await tab.click("#in");
  assert.equal(await tab.textContent("#zoom"), "800 %");
  assert.equal(await tab.evaluate(() => document.getElementById("grid").style.display), "block");
  await tab.click("#fit");

  // 16 bits and metadata stay.
  await tab.setInputFiles("#files", at("deep.png"));
  await ended(1);
  const deep = await download(row(1).getByRole("link"));
  assert.equal(deep.bytes[24], 16, "bits of a sample");
  assert.ok(deep.bytes.includes("eXIf") && deep.bytes.includes("WDSR"), "EXIF stays");

  // The message of the program.
  const message_of_program = (() => {
    try { run(at("notes.png"), "-o", at("none.png")); } catch (error) { return error.stderr.toString(); }
    return "";
  })();
  await tab.setInputFiles("#files", at("notes.png"));
  await ended(2);
  const message = await row(2).locator(".state").textContent();
  assert.ok(message_of_program.includes(message.replace(/^notes\.png/, "")), `${message}, expected as in ${message_of_program}`);
  assert.match(await row(2).locator(".state").getAttribute("class"), /error/);

  // Cancelling, after which the next image runs.
  await tab.setInputFiles("#files", at("large.png"));
  await tab.waitForFunction(() => items[3].bar.value > 0, null, { timeout: 60000 });
  await row(3).getByRole("button", { name: "Cancel large.png" }).waitFor();
  const cancel_ms = await tab.evaluate(async () => {
    const started = performance.now();
    items[3].cancel.click();
    while (!items[3].hasEnded) await new Promise((soon) => setTimeout(soon, 1));
    return performance.now() - started;
  });
  console.log(`${name}: cancelled in ${cancel_ms.toFixed(0)} ms`);
  assert.ok(cancel_ms < 100, `cancelled in ${cancel_ms} ms`);
  assert.equal(await row(3).locator(".state").textContent(), "cancelled");

  // JPEG XL, which another module reads.
  await tab.setInputFiles("#files", "crates/image/tests/jxl/rgb8.jxl");
  await ended(4);
  const of_jxl = await difference(tab, [(await download(row(4).getByRole("link"))).bytes, await readFile(at("expected-jxl.png"))]);
  assert.ok(of_jxl <= (isServer ? 0 : 1), `JPEG XL differs by ${of_jxl}`);

  // Without a network from here on, if the engine is in the browser.
  if (!isServer) await context.setOffline(true);

  // Several images at a time are those of one at a time.
  const [at_a_time, most_at_a_time] = await tab.evaluate((file) => {
    const bytes = Uint8Array.from(atob(file), (c) => c.charCodeAt(0));
    add(["first.png", "second.png"].map((name) => new File([bytes], name)));
    return [running, engine.imagesAtATime];
  }, small.toString("base64"));
  assert.equal(at_a_time, Math.min(most_at_a_time, 2), "images at a time");
  for (const number of [5, 6]) {
    await ended(number);
    assert.ok((await download(row(number).getByRole("link"))).bytes.equals(result.bytes), `image ${number} differs`);
  }

  // Two models of one image.
  await tab.selectOption("#other-model", "small");
  await tab.setInputFiles("#files", at("small.png"));
  await ended(7);
  assert.equal(await row(7).getByRole("link").count(), 2);
  await row(7).getByRole("button", { name: "Compare" }).click();
  assert.equal(await tab.textContent("#left-tag"), "upscaled (base)");
  assert.equal(await tab.textContent("#right-tag"), "upscaled (small)");
  await context.setOffline(false);
  const all = await download(tab.locator("#download-all"));
  await writeFile(at("all.zip"), all.bytes);
  const listed = execFileSync("python3", ["-c", "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; print(*z.namelist())", at("all.zip")]);
  assert.equal(listed.toString().trim(), "small-upscaled.png deep-upscaled.png rgb8-upscaled.png first-upscaled.png second-upscaled.png small-upscaled-base.png small-upscaled-small.png");

  for (const [colours, width] of [["light", 1280], ["dark", 1280], ["light", 390]]) {
    await tab.emulateMedia({ colorScheme: colours, reducedMotion: "reduce" });
    await tab.setViewportSize({ width, height: 900 });
    await tab.evaluate(() => scrollTo(0, 0));
    await accessible(`${colours}, ${width}`);
    assert.ok(await tab.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${width}: scrolls sideways`);
    if (screenshots) await tab.screenshot({ path: join(screenshots, `${name}-${colours}-${width}.png`), fullPage: true });
  }
  assert.deepEqual(outside, [], "requests to other places");
  assert.deepEqual(errors, [], "errors in the console");
  await context.close();
}

const browser = await launch(require);
const files = await serveFiles([page]);
const server = spawn(program, ["serve", "--listen", "127.0.0.1:0"]);
try {
  await test("browser", files.url, browser);
  const url = await new Promise((found, failed) => {
    let text = "";
    const read = (part) => { text += part; const match = /http:\/\/[\d.:]+/.exec(text); if (match) found(`${match[0]}/`); };
    server.stdout.on("data", read);
    server.stderr.on("data", read);
    server.on("exit", () => failed(new Error(text)));
  });
  await test("server", url, browser);
} finally {
  server.kill();
  await browser.close();
  files.close();
}
console.log("the page works with both engines");
