// Chromium with pages of a real server, and what all tests of the page do with them.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import {
  type BrowserContextOptions,
  type Browser as Chromium,
  chromium,
  type Locator,
  type Page,
} from "playwright-core";
import { expect } from "vitest";
import { png } from "../../tests/pictures";
import { folder, Server } from "../../tests/server";

const EXECUTABLE = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
// With this variable, the tests write screenshots of all states that they check into a folder.
const SCREENSHOTS = process.env.GRAMOPHONE_SCREENSHOTS;

const DESKTOP = { width: 1280, height: 900 };
export const PHONE = { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true };

/** Whether there is a browser to test in. */
export const hasBrowser = Boolean(EXECUTABLE);
if (!hasBrowser) console.warn("Chromium is not installed, so the tests of the page are skipped");

/** A folder with pictures for forms. */
export const pictures = folder();
export const CONTENT = file("content.png", png(96, 64, 0));
export const STYLE = file("style.png", png(64, 64, 2));

/** Writes a file into the folder of pictures and returns its path. */
export function file(name: string, data: Buffer): string {
  const path = join(pictures, name);
  writeFileSync(path, data);
  return path;
}

/** A browser and a server. */
export class Browser {
  private constructor(
    readonly server: Server,
    readonly chromium: Chromium,
  ) {}

  static async start(): Promise<Browser> {
    const server = await Server.start();
    return new Browser(server, await chromium.launch({ executablePath: EXECUTABLE ?? "", args: ["--no-sandbox"] }));
  }

  /** Opens the page in a new profile; the test fails on any script error and on any request to another host. */
  async open(options: BrowserContextOptions = {}, url = this.server.url): Promise<Page> {
    const context = await this.chromium.newContext({ viewport: DESKTOP, ...options });
    const page = await context.newPage();
    page.setDefaultTimeout(60_000);
    page.on("pageerror", (error) => expect.fail(`the page threw ${error.stack}`));
    page.on("console", (message) => {
      if (/Content Security Policy|Refused to/.test(message.text())) expect.fail(message.text());
    });
    page.on("request", (request) => {
      if (!/^(blob|data):/.test(request.url()) && new URL(request.url()).origin !== new URL(url).origin)
        expect.fail(`the page asked ${request.url()}`);
    });
    await page.goto(url);
    return page;
  }

  async stop(): Promise<void> {
    await this.chromium.close();
    await this.server.stop();
  }
}

/** The file input of a place for a picture. */
export function picture(page: Page, name: string): Locator {
  return page.getByRole("group", { name, exact: true }).locator("input[type=file]").first();
}

/** Fills the form, and waits for the estimate. */
export async function give(page: Page, iterations: number, size = 64): Promise<void> {
  await picture(page, "Content").setInputFiles(CONTENT);
  await picture(page, "Style").setInputFiles(STYLE);
  await page.getByLabel("Size", { exact: true }).fill(String(size));
  await page.getByLabel("Iterations", { exact: true }).fill(String(iterations));
  await estimated(page);
}

export const estimated = (page: Page) => page.getByText(/^Takes .* of memory/).waitFor();

/** Fills the form and submits it; returns the job's id. */
export async function paint(page: Page, iterations: number, size = 64): Promise<string> {
  await give(page, iterations, size);
  return submit(page);
}

/** Submits the form; returns the job's id. */
export async function submit(page: Page): Promise<string> {
  const before = page.url();
  await page.getByRole("button", { name: "Paint", exact: true }).click();
  await page.waitForURL((url) => /#job=/.test(url.hash) && url.href !== before);
  return shownJob(page);
}

/** The id of the job that the page shows. */
export const shownJob = (page: Page) => page.url().split("#job=")[1] as string;

export const finished = (page: Page) => page.getByText(/^Done: /).waitFor();

/** The width of a picture on the page, in its own pixels. */
export const widthOf = (image: Locator): Promise<number> =>
  image.evaluate((shown: HTMLImageElement) => shown.decode().then(() => shown.naturalWidth));

/** Waits until the shown job is running and has a loss curve. */
export async function painting(page: Page): Promise<void> {
  await page.getByText("Painting.", { exact: true }).waitFor();
  await page.getByRole("img", { name: /^The loss fell from/ }).waitFor();
}

/** Cancels the shown job. */
export async function cancel(page: Page): Promise<void> {
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.getByText("Canceled.", { exact: true }).waitFor();
}

/**
 * Expects that on a desktop and on a phone, light and dark, axe finds no violation of any rule, and nothing is wider than
 * the screen.
 *
 * @param state the name of the state, for its screenshots.
 */
export async function expectGood(page: Page, state: string): Promise<void> {
  const before = page.viewportSize() ?? DESKTOP;
  for (const [device, viewport] of Object.entries({ desktop: DESKTOP, phone: PHONE.viewport })) {
    await page.setViewportSize(viewport);
    for (const colorScheme of ["light", "dark"] as const) {
      await page.emulateMedia({ colorScheme });
      await keepScreenshot(page, `${state}-${device}-${colorScheme}`);
      expect(await violations(page), `${state}, ${device}, ${colorScheme}`).toEqual([]);
    }
    const width = await page.evaluate("document.documentElement.scrollWidth");
    expect(width, `width of ${state}, ${device}`).toBeLessThanOrEqual(viewport.width);
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize(before);
}

/** What axe finds, as texts. */
async function violations(page: Page): Promise<string[]> {
  await page.evaluate(AXE);
  const found = (await page.evaluate("axe.run()")) as {
    violations: { id: string; nodes: { html: string; failureSummary: string }[] }[];
  };
  return found.violations.map(
    ({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.html} ${node.failureSummary}`).join("; ")}`,
  );
}

async function keepScreenshot(page: Page, name: string): Promise<void> {
  if (!SCREENSHOTS) return;
  mkdirSync(SCREENSHOTS, { recursive: true });
  const before = page.viewportSize() ?? DESKTOP;
  // A full-page screenshot has what sticks to the window at wrong places.
  const height = Number(await page.evaluate("document.documentElement.scrollHeight"));
  await page.setViewportSize({ width: before.width, height });
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`) });
  await page.setViewportSize(before);
}
