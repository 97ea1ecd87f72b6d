// Jobs that are painted again with other settings, and grids, in Chromium against a real server.

import { execFileSync } from "node:child_process";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { png } from "../../tests/pictures";
import { PYTHON } from "../../tests/server";
import {
  Browser,
  estimated,
  expectGood,
  file,
  finished,
  give,
  hasBrowser,
  paint,
  picture,
  pictures,
  submit,
  widthOf,
} from "./browser";

describe.skipIf(!hasBrowser)("painting again", () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await Browser.start();
  });
  afterAll(() => browser?.stop());

  test("a job is painted again with another seed, from another browser as well", async () => {
    const page = await browser.open();
    const id = await paint(page, 20);
    await finished(page);
    await page.getByRole("button", { name: "another seed" }).click();
    await page.getByText("All options").click();
    expect(await page.getByLabel("Seed", { exact: true }).inputValue()).toBe("1");
    // Without noise, another seed would paint the same picture.
    expect(await page.getByLabel("Init", { exact: true }).inputValue()).toBe("blend");
    await page.context().close();

    const other = await browser.open();
    await other.goto(`${browser.server.url}/#job=${id}`);
    await finished(other);
    await other.getByRole("button", { name: "twice the iterations" }).click();
    await estimated(other);
    expect(await other.getByLabel("Iterations", { exact: true }).inputValue()).toBe("40");
    await other.getByText("All options").click();
    await other.getByLabel("Result format", { exact: true }).selectOption("tiff");
    await estimated(other);
    const again = await submit(other);
    await other.getByText(/^Done: 40 iterations/).waitFor();
    const name = await other.getByRole("link", { name: "Download" }).getAttribute("download");
    expect(name).toBe(`gramophone-${again}.tif`);
    await other.context().close();
  });

  test("a job of the Python client with layers, losses and scales is painted again to the same pixels", async () => {
    const id = painted(`client.transfer(
    content, [gramophone.Style(style, weight=3, scale=1.5), content], size=48, iterations=12, seed=5, tv_weight=0.2,
    style_layers={"conv1_1": 1, "conv3_1": 0.5}, style_loss={"gram": 1, "spectrum": 0.5}, style_weight=20)`);
    const page = await browser.open();
    await page.goto(`${browser.server.url}/#job=${id}`);
    await finished(page);
    await page.getByRole("button", { name: "other settings" }).click();
    // Pictures in a request are not among the uploaded files.
    await page.getByText("The job's own copy.").nth(2).waitFor();
    expect(await widthOf(page.getByAltText("Content: content"))).toBe(48);
    await estimated(page);
    await expectGood(page, "copies");
    await expectSame(page, id, await paintAgain(page));
    await page.context().close();
  });

  test("a job with maps of regions asks for the maps, and is painted again to the same pixels", async () => {
    const id = painted(
      `client.style(gramophone.Style(style, source_map=regions), canvas_map=regions, size=48, iterations=5)`,
    );
    const page = await browser.open();
    await page.goto(`${browser.server.url}/#job=${id}`);
    await finished(page);
    await page.getByRole("button", { name: "other settings" }).click();
    await page.getByText("The job's own copy.").waitFor();
    await page.getByText("All options").click();
    await page.getByText("The server does not have this file. Choose it again.").nth(1).waitFor();
    await picture(page, "Canvas map").setInputFiles(join(pictures, "regions.png"));
    await picture(page, "Map of the picture").setInputFiles(join(pictures, "regions.png"));
    await estimated(page);
    await expectGood(page, "maps");
    await expectSame(page, id, await paintAgain(page));
    await page.context().close();
  });

  /** Paints with the Python client, with pictures in the request; returns the job's id. */
  function painted(call: string): string {
    const program = `
import sys, gramophone
from PIL import Image
regions = Image.new("RGB", (60, 60), "red")
regions.paste("blue", (0, 0, 30, 60))
regions.save(sys.argv[4])
content, style, regions = (open(name, "rb").read() for name in sys.argv[2:])
client = gramophone.Client(sys.argv[1])
job = ${call}
job.result()
print(job.id)`;
    const content = file("inline-content.png", png(80, 60, 21));
    const style = file("inline-style.png", png(60, 60, 22));
    const files = [content, style, join(pictures, "regions.png")];
    return execFileSync(PYTHON, ["-c", program, browser.server.address, ...files], { encoding: "utf8" }).trim();
  }

  /** Submits the form, and waits for the result; returns the id of the job. */
  async function paintAgain(page: Page): Promise<string> {
    const id = await submit(page);
    await finished(page);
    return id;
  }

  /** The pixels of the results of jobs; their files also have the recipes. */
  async function pixelsOf(page: Page, ids: string[]): Promise<number[][]> {
    const found = await page.evaluate(
      (ids) =>
        Promise.all(
          ids.map(async (job) => {
            const image = await createImageBitmap(await (await fetch(`jobs/${job}/result`)).blob());
            const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
            canvas?.drawImage(image, 0, 0);
            return [...(canvas?.getImageData(0, 0, image.width, image.height).data ?? [])];
          }),
        ),
      ids,
    );
    for (const pixels of found) expect(pixels.length).toBeGreaterThan(1000);
    return found;
  }

  async function expectSame(page: Page, id: string, other: string): Promise<void> {
    const [first, second] = await pixelsOf(page, [id, other]);
    expect(second).toEqual(first);
  }

  /** Paints the grid of the form, and waits until its jobs have ended. */
  async function paintGrid(page: Page, count: number): Promise<void> {
    await page.getByRole("button", { name: `Paint ${count} pictures` }).click();
    await page.waitForURL(/#grid=/);
    await page
      .getByRole("link", { name: /: Done$/ })
      .nth(count - 1)
      .waitFor();
  }

  test("a seed without effect is explained, and a grid of seeds has different pictures", async () => {
    const page = await browser.open();
    await give(page, 5, 32);
    await page.getByText("All options").click();
    await page.getByLabel("Seed", { exact: true }).fill("3");
    await submit(page);
    await finished(page);
    await page.getByText("options.seed changes nothing, because the initial canvas has no noise").waitFor();
    await page.getByText("Several at once").click();
    await page.getByText("These pictures start from the content mixed with noise").waitFor();
    await expectGood(page, "seeds");
    await page.getByLabel("Values").first().fill("1, 2");
    await paintGrid(page, 2);
    const ids = await page.evaluate(() =>
      [...document.querySelectorAll<HTMLAnchorElement>(".grid a")].map((link) => link.hash.slice("#job=".length)),
    );
    const [first, second] = await pixelsOf(page, ids);
    expect(second).not.toEqual(first);
    await page.context().close();
  });

  test("a grid has a picture for each pair of values, and its jobs can be opened and deleted", async () => {
    const page = await browser.open();
    await give(page, 10, 32);
    await page.getByText("Several at once").click();
    await page.getByLabel("Values").first().fill("1, 2");
    await page.getByLabel("Rows").selectOption("strength");
    await page.getByLabel("Values").last().fill("0.5 2");
    await paintGrid(page, 4);
    await page.reload();
    await page.getByRole("link", { name: "2, 0.5: Done" }).waitFor();
    await page.waitForFunction(() => document.querySelectorAll(".grid img").length === 4);
    await expectGood(page, "grid");
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
});
