// The page in Chromium against a real server.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connect } from "../../client/src/node";
import { png } from "../../tests/pictures";
import { addToken, folder, PYTHON, Server } from "../../tests/server";

const CHROMIUM = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PHONE = { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true };

const pictures = folder();
const CONTENT = join(pictures, "content.png");
const STYLE = join(pictures, "style.png");
writeFileSync(CONTENT, png(96, 64, 0));
writeFileSync(STYLE, png(64, 64, 2));

if (!CHROMIUM) console.warn("Chromium is not installed, so the tests of the page are skipped");

describe.skipIf(!CHROMIUM)("the page", () => {
  let server: Server;
  let browser: Browser;

  beforeAll(async () => {
    server = await Server.start();
    browser = await chromium.launch({ executablePath: CHROMIUM ?? "", args: ["--no-sandbox"] });
  });
  afterAll(async () => {
    await browser?.close();
    await server?.stop();
  });

  /** Opens the page in a new profile; the test fails on any script error and on any request to another host. */
  async function open(options: BrowserContextOptions = {}, url = server.url): Promise<Page> {
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
    const page = await context.newPage();
    page.setDefaultTimeout(60_000);
    page.on("pageerror", (error) => expect.fail(`the page threw ${error.stack}`));
    page.on("console", (message) => {
      if (/Content Security Policy|Refused to/.test(message.text())) expect.fail(message.text());
    });
    page.on("request", (request) => {
      if (!/^(blob|data):/.test(request.url()) && new URL(request.url()).origin !== url)
        expect.fail(`the page asked ${request.url()}`);
    });
    await page.goto(url);
    return page;
  }

  const picture = (page: Page, name: string) =>
    page.getByRole("group", { name, exact: true }).locator("input[type=file]").first();

  async function give(page: Page, iterations: number, size = 64): Promise<void> {
    await picture(page, "Content").setInputFiles(CONTENT);
    await picture(page, "Style").setInputFiles(STYLE);
    await page.getByLabel("Size", { exact: true }).fill(String(size));
    await page.getByLabel("Iterations", { exact: true }).fill(String(iterations));
    await page.getByText(/^Takes .* of memory/).waitFor();
  }

  async function paint(page: Page, iterations: number, size = 64): Promise<string> {
    await give(page, iterations, size);
    await page.getByRole("button", { name: "Paint", exact: true }).click();
    await page.waitForURL(/#job=/);
    return page.url().split("#job=")[1] as string;
  }

  const finished = (page: Page) => page.getByText(/^Done: /).waitFor();

  /** Expects that axe finds no violation of any rule, in light and dark. */
  async function expectAccessible(page: Page): Promise<void> {
    for (const colorScheme of ["light", "dark"] as const) {
      await page.emulateMedia({ colorScheme });
      await page.evaluate(AXE);
      const found = await page.evaluate("axe.run()");
      const { violations } = found as {
        violations: { id: string; nodes: { html: string; failureSummary: string }[] }[];
      };
      const told = violations.map(
        ({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.html} ${node.failureSummary}`).join("; ")}`,
      );
      expect(told, colorScheme).toEqual([]);
    }
  }

  test("an empty page says what to do, and is accessible on a desktop and on a phone", async () => {
    for (const options of [{}, PHONE]) {
      const page = await open(options);
      await page.getByText("Choose a content picture.").waitFor();
      await page.getByText("There are no jobs yet.").waitFor();
      await expectAccessible(page);
      const width = await page.evaluate("document.documentElement.scrollWidth");
      expect(width).toBeLessThanOrEqual(page.viewportSize()?.width ?? 0);
      await page.context().close();
    }
  });

  test("a job shows its frames, can be compared, and its download has the bytes of the Python client's", async () => {
    const page = await open();
    await page.evaluate(() => {
      const seen = new Set<string>();
      Object.assign(window, { seen });
      new MutationObserver(() => {
        const picture = document.querySelector<HTMLImageElement>(".picture");
        if (picture?.complete) seen.add(picture.src);
      }).observe(document.body, { subtree: true, childList: true, attributes: true });
    });
    await page.getByText("All options").click();
    await page.getByLabel("Report every", { exact: true }).fill("10");
    const id = await paint(page, 200);
    await finished(page);
    expect(await page.evaluate("seen.size")).toBeGreaterThan(2);
    await page.getByRole("img", { name: /^The loss fell from/ }).waitFor();
    await page.getByRole("row", { name: /Content conv4_2/ }).waitFor();

    const slider = page.getByLabel("Compare with the picture before");
    const before = page.getByAltText("Before: content.png");
    expect(await before.evaluate((image) => getComputedStyle(image).clipPath)).toContain(" 100% ");
    await slider.focus();
    await page.keyboard.press("End");
    expect(await before.evaluate((image) => getComputedStyle(image).clipPath)).toContain(" 0% ");
    await slider.fill("30");

    const download = page.waitForEvent("download");
    await page.getByRole("link", { name: "Download" }).click();
    const file = await (await download).path();
    const program =
      "import sys, hashlib, gramophone; print(hashlib.sha256(gramophone.Client(sys.argv[1]).job(sys.argv[2]).download()).hexdigest())";
    const theirs = execFileSync(PYTHON, ["-c", program, server.address, id], { encoding: "utf8" }).trim();
    expect(createHash("sha256").update(readFileSync(file)).digest("hex")).toBe(theirs);
    await expectAccessible(page);
    await page.setViewportSize(PHONE.viewport);
    expect(await page.evaluate("document.documentElement.scrollWidth")).toBeLessThanOrEqual(360);
    await expectAccessible(page);
    await page.context().close();
  });

  test("a reload shows the same job again, with its whole curve and the settings in the form", async () => {
    const page = await open();
    await paint(page, 3000);
    await page.getByRole("img", { name: /^The loss fell from/ }).waitFor();
    await expectAccessible(page);
    const label = await page.locator(".curve svg").getAttribute("aria-label");
    await page.reload();
    await page.getByRole("img", { name: label?.split(" to ")[0] ?? "" }).waitFor();
    await page.getByText(/^Takes .* of memory/).waitFor();
    expect(await page.getByLabel("Iterations", { exact: true }).inputValue()).toBe("3000");
    const small = page.getByAltText("Content: content.png");
    expect(await small.evaluate((image: HTMLImageElement) => image.decode().then(() => image.naturalWidth))).toBe(96);
    await page.getByRole("button", { name: "Cancel" }).click();
    await page.getByText("Canceled.", { exact: true }).waitFor();
    await expectAccessible(page);
    await page.context().close();
  });

  test("pictures are pasted and dropped where one is missing", async () => {
    const page = await open();
    const data = await page.evaluateHandle(
      (bytes) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([Uint8Array.from(bytes)], "moved.png", { type: "image/png" }));
        return transfer;
      },
      [...png()],
    );
    await page.evaluate(
      (clipboardData) => document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true })),
      data,
    );
    await page.getByAltText("Content: moved.png").waitFor();
    await page.getByRole("group", { name: "Style", exact: true }).dispatchEvent("drop", { dataTransfer: data });
    await page.getByAltText("Style: moved.png").waitFor();
    await page.getByText(/^Takes .* of memory/).waitFor();
    await page.getByRole("button", { name: "Remove: Content" }).click();
    await page.getByText("Choose a content picture.").waitFor();
    await page.context().close();
  });

  test("an error is beside its field, and the server's own errors are, too", async () => {
    const page = await open();
    await give(page, 10);
    const size = page.getByLabel("Size", { exact: true });
    await size.fill("5");
    await page.getByText("It must be 16 to 8,192 pixels.").waitFor();
    expect(await size.getAttribute("aria-invalid")).toBe("true");
    await expectAccessible(page);
    await size.fill("64");
    await page.getByText("All options").click();
    await page.getByLabel("Init", { exact: true }).selectOption("image");
    const message = page.locator("fieldset:has(> legend:text('Canvas'))").getByRole("alert");
    await message.waitFor();
    expect(await message.textContent()).toMatch(/\w+.*\./);
    await page.getByLabel("About Optimizer").click();
    await page.getByText("Limited-memory BFGS").waitFor();
    await expectAccessible(page);
    await page.context().close();
  });

  test("a mask is painted with the pointer and with the keyboard", async () => {
    const page = await open();
    await give(page, 10);
    await page.getByText("Adjust").click();
    await page.getByRole("button", { name: "Paint a mask of the canvas" }).click();
    const canvas = page.getByRole("application");
    await canvas.waitFor();
    await page.waitForFunction("document.querySelector('.easel canvas').width === 768");
    const box = await canvas.boundingBox();
    if (!box) throw new Error("the canvas is not visible");
    await page.mouse.move(box.x + 20, box.y + 20);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width / 2, box.y + 30, { steps: 4 });
    await page.mouse.up();
    const painted = () =>
      canvas.evaluate((element: HTMLCanvasElement) => {
        const data = element.getContext("2d")?.getImageData(0, 0, element.width, element.height).data ?? [];
        return data.filter((level, at) => at % 4 === 3 && level > 0).length;
      });
    const first = await painted();
    expect(first).toBeGreaterThan(1000);
    await canvas.focus();
    for (const key of ["ArrowDown", "ArrowDown", "ArrowDown", "ArrowDown", "ArrowRight", " "])
      await page.keyboard.press(key);
    expect(await painted()).toBeGreaterThan(first);
    await page.getByRole("button", { name: "Undo" }).click();
    expect(await painted()).toBe(first);
    await expectAccessible(page);
    await page.getByRole("button", { name: "Use this mask" }).click();
    await page.getByAltText("Mask of the canvas").waitFor();
    await page.getByText(/^Takes .* of memory/).waitFor();
    await page.getByRole("button", { name: "Paint", exact: true }).click();
    await finished(page);
    const id = page.url().split("#job=")[1] as string;
    const recipe = execFileSync(
      PYTHON,
      [
        "-c",
        "import sys, gramophone; print(gramophone.Client(sys.argv[1]).job(sys.argv[2]).result().recipe['styles'][0]['mask'] is not None)",
        server.address,
        id,
      ],
      { encoding: "utf8" },
    );
    expect(recipe.trim()).toBe("True");
    await page.context().close();
  });

  test("a job is painted again with another seed, from another browser as well", async () => {
    const page = await open();
    const id = await paint(page, 20);
    await finished(page);
    await page.getByRole("button", { name: "another seed" }).click();
    await page.getByText("All options").click();
    expect(await page.getByLabel("Seed", { exact: true }).inputValue()).toBe("1");
    await page.context().close();

    const other = await open();
    await other.goto(`${server.url}/#job=${id}`);
    await finished(other);
    await other.getByRole("button", { name: "twice the iterations" }).click();
    await other.getByText(/^Takes .* of memory/).waitFor();
    expect(await other.getByLabel("Iterations", { exact: true }).inputValue()).toBe("40");
    await other.getByRole("button", { name: "Paint", exact: true }).click();
    await other.waitForURL((url) => /#job=/.test(url.hash) && !url.hash.includes(id));
    await other.getByText(/^Done: 40 iterations/).waitFor();
    await other.context().close();
  });

  test("a job of the Python client with layers, losses and scales is painted again to the same bytes", async () => {
    const program = `
import sys, gramophone
content, style = open(sys.argv[2], "rb").read(), open(sys.argv[3], "rb").read()
job = gramophone.Client(sys.argv[1]).transfer(
    content, [gramophone.Style(style, weight=3, scale=1.5), content], size=48, iterations=12, seed=5, tv_weight=0.2,
    style_layers={"conv1_1": 1, "conv3_1": 0.5}, style_loss={"gram": 1, "spectrum": 0.5}, style_weight=20)
job.result()
print(job.id)`;
    // Pictures in a request are not among the uploaded files.
    const [content, style] = ["c.png", "s.png"].map((name) => join(pictures, name)) as [string, string];
    writeFileSync(content, png(80, 60, 21));
    writeFileSync(style, png(60, 60, 22));
    const id = execFileSync(PYTHON, ["-c", program, server.address, content, style], { encoding: "utf8" }).trim();
    const page = await open();
    await page.goto(`${server.url}/#job=${id}`);
    await finished(page);
    await page.getByRole("button", { name: "other settings" }).click();
    await page.getByText("The server does not have this file. Choose it again.").nth(2).waitFor();
    await picture(page, "Content").setInputFiles(content);
    await picture(page, "Style 1").setInputFiles(style);
    await picture(page, "Style 2").setInputFiles(content);
    await page.getByText(/^Takes .* of memory/).waitFor();
    await page.getByRole("button", { name: "Paint", exact: true }).click();
    await page.waitForURL((url) => /#job=/.test(url.hash) && !url.hash.includes(id));
    await finished(page);
    const again = page.url().split("#job=")[1] as string;
    const client = connect(server.address);
    expect(await client.job(again).download()).toEqual(await client.job(id).download());
    await page.context().close();
  });

  test("a grid has a picture for each pair of values, and its jobs can be opened and deleted", async () => {
    const page = await open();
    await give(page, 10, 32);
    await page.getByText("Several at once").click();
    await page.getByLabel("Values").first().fill("1, 2");
    await page.getByLabel("Rows").selectOption("strength");
    await page.getByLabel("Values").last().fill("0.5 2");
    await page.getByRole("button", { name: "Paint 4 pictures" }).click();
    await page.waitForURL(/#grid=/);
    await page
      .getByRole("link", { name: /: Done$/ })
      .nth(3)
      .waitFor();
    await page.reload();
    await page.getByRole("link", { name: "2, 0.5: Done" }).waitFor();
    await page.waitForFunction("document.querySelectorAll('.grid img').length === 4");
    await expectAccessible(page);
    await page.getByRole("link", { name: "2, 0.5: Done" }).click();
    await finished(page);
    const items = page.locator(".jobs li");
    const count = await items.count();
    await page
      .getByRole("button", { name: /^Delete: / })
      .first()
      .click();
    await page.waitForFunction((most) => document.querySelectorAll(".jobs li").length < most, count);
    await page.context().close();
  });

  test("the page follows a job again after the server was killed", async () => {
    const data = folder();
    const first = await Server.start("--data", data);
    const page = await open({}, first.url);
    await paint(page, 2000);
    await page.getByRole("img", { name: /^The loss fell from/ }).waitFor();
    await first.kill();
    await page.getByText("The connection is lost. The job goes on").waitFor();
    await expectAccessible(page);
    const ports = ["--port", first.address.split(":")[1] as string, "--http", first.url.replace("http://", "")];
    const second = await Server.start("--data", data, ...ports);
    await page.getByText("Painting.").waitFor();
    await page.getByRole("button", { name: "Cancel" }).click();
    await page.getByText("Canceled.", { exact: true }).waitFor();
    await page.context().close();
    await second.stop();
  });

  test("a server with tokens is asked for with one, which the tab keeps", async () => {
    const file = join(folder(), "tokens.json");
    const token = addToken(file);
    const guarded = await Server.start("--tokens", file);
    const page = await open({}, guarded.url);
    await page.getByText("This server asks for a token.").waitFor();
    await expectAccessible(page);
    await page.getByLabel("Token", { exact: true }).fill("wrong");
    await page.keyboard.press("Enter");
    await page.getByText("The server does not accept this token.").waitFor();
    await page.getByLabel("Token", { exact: true }).fill(token);
    await page.keyboard.press("Enter");
    const id = await paint(page, 20);
    await finished(page);
    await page.locator(".jobs li img").waitFor();
    await page.reload();
    await finished(page);
    await page.getByAltText("Content: content.png").waitFor();
    expect(await page.getByLabel("Token", { exact: true }).count()).toBe(0);
    await page.context().close();

    const other = await open({}, guarded.url);
    await other.goto(`${guarded.url}/#job=${id}`);
    await picture(other, "Content").setInputFiles(CONTENT);
    await other.getByText("This server asks for a token.", { exact: true }).first().waitFor();
    await other.getByLabel("Token", { exact: true }).fill(token);
    await other.keyboard.press("Enter");
    await finished(other);
    await other.getByText("Choose a style picture.").waitFor();
    await other.context().close();
    await guarded.stop();
  });

  test("everything works with the keyboard alone", async () => {
    const page = await open(PHONE);
    await picture(page, "Content").setInputFiles(CONTENT);
    await page.getByRole("radio", { name: "Transfer" }).focus();
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("ArrowRight");
    expect(await page.getByRole("radio", { name: "Content" }).isChecked()).toBe(true);
    for (let at = 0; at < 3; at++) await page.keyboard.press("Tab");
    await page.getByLabel("Size", { exact: true }).focus();
    await page.keyboard.type("64");
    await page.getByLabel("Iterations", { exact: true }).focus();
    await page.keyboard.type("10");
    await page.getByText(/^Takes .* of memory/).waitFor();
    await page.keyboard.press("Enter");
    await finished(page);
    await page.context().close();
  });

  test("the page is small, and needs no more than its own files", async () => {
    const page = await open();
    const sizes = await page.evaluate(() =>
      performance
        .getEntriesByType("resource")
        .map((entry) => [entry.name, (entry as PerformanceResourceTiming).encodedBodySize] as const),
    );
    const files = sizes.filter(([name]) => /\/assets\/|icon/.test(name));
    expect(files.length).toBeLessThanOrEqual(3);
    expect(files.reduce((sum, [, size]) => sum + size, 0)).toBeLessThan(150_000);
    await page.context().close();
  });
});
