// The page in Chromium against a real server.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { png } from "../../tests/pictures";
import { PYTHON } from "../../tests/server";
import {
  Browser,
  CONTENT,
  cancel,
  estimated,
  expectGood,
  finished,
  give,
  hasBrowser,
  PHONE,
  paint,
  painting,
  picture,
  submit,
  widthOf,
} from "./browser";

describe.skipIf(!hasBrowser)("the page", () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await Browser.start();
  });
  afterAll(() => browser?.stop());

  test("an empty page says what to do, on a desktop and on a phone", async () => {
    for (const options of [{}, PHONE]) {
      const page = await browser.open(options);
      await page.getByText("Choose a content picture.").waitFor();
      await page.getByText("There are no jobs yet.").waitFor();
      await expectGood(page, "empty");
      await page.context().close();
    }
  });

  test("a job shows its frames, can be compared, and its download has the bytes of the Python client's", async () => {
    const page = await browser.open();
    await page.evaluate(() => {
      const seen = new Set<string>();
      Object.assign(window, { seen });
      // The load event does not bubble, so this listener captures it.
      document.addEventListener(
        "load",
        ({ target }) => {
          if (target instanceof HTMLImageElement && target.matches(".picture")) seen.add(target.src);
        },
        true,
      );
    });
    await page.getByText("All options").click();
    await page.getByLabel("Report every", { exact: true }).fill("10");
    const id = await paint(page, 600);
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
    const theirs = execFileSync(PYTHON, ["-c", program, browser.server.address, id], { encoding: "utf8" }).trim();
    expect(createHash("sha256").update(readFileSync(file)).digest("hex")).toBe(theirs);
    await expectGood(page, "done");
    await page.context().close();
  });

  test("a reload shows the same job again, with its whole curve and the settings in the form", async () => {
    const page = await browser.open();
    await paint(page, 3000);
    await painting(page);
    await expectGood(page, "painting");
    const label = await page.locator(".curve svg").getAttribute("aria-label");
    await page.reload();
    await page.getByRole("img", { name: label?.split(" to ")[0] ?? "" }).waitFor();
    await estimated(page);
    expect(await page.getByLabel("Iterations", { exact: true }).inputValue()).toBe("3000");
    expect(await widthOf(page.getByAltText("Content: content.png"))).toBe(96);
    await cancel(page);
    await expectGood(page, "canceled");
    await page.context().close();
  });

  test("pictures are pasted and dropped where one is missing", async () => {
    const page = await browser.open();
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
    await estimated(page);
    await page.getByRole("button", { name: "Remove: Content" }).click();
    await page.getByText("Choose a content picture.").waitFor();
    await page.context().close();
  });

  test("an error is beside its field, and the server's own errors are, too", async () => {
    const page = await browser.open();
    await give(page, 10);
    const size = page.getByLabel("Size", { exact: true });
    await size.fill("5");
    await page.getByText("It must be 16 to 8,192 pixels.").waitFor();
    expect(await size.getAttribute("aria-invalid")).toBe("true");
    await expectGood(page, "wrong-field");
    await size.fill("64");
    await page.getByText("All options").click();
    await page.getByLabel("Init", { exact: true }).selectOption("image");
    const message = page.locator("fieldset:has(> legend:text('Canvas'))").getByRole("alert");
    await message.waitFor();
    expect(await message.textContent()).toMatch(/\w+.*\./);
    await page.getByLabel("About Optimizer").click();
    await page.getByText("Limited-memory BFGS").waitFor();
    await expectGood(page, "wrong-for-the-server");
    await page.context().close();
  });

  test("a mask is painted with the pointer and with the keyboard", async () => {
    const page = await browser.open();
    await give(page, 10);
    await page.getByText("Adjust").click();
    await page.getByRole("button", { name: "Paint a mask of the canvas" }).click();
    const canvas = page.getByRole("application");
    await canvas.waitFor();
    await page.waitForFunction(() => document.querySelector<HTMLCanvasElement>(".easel canvas")?.width === 768);
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
    await expectGood(page, "mask");
    await page.getByRole("button", { name: "Use this mask" }).click();
    await page.getByAltText("Mask of the canvas").waitFor();
    await estimated(page);
    const id = await submit(page);
    await finished(page);
    const recipe = execFileSync(
      PYTHON,
      [
        "-c",
        "import sys, gramophone; print(gramophone.Client(sys.argv[1]).job(sys.argv[2]).result().recipe['styles'][0]['mask'] is not None)",
        browser.server.address,
        id,
      ],
      { encoding: "utf8" },
    );
    expect(recipe.trim()).toBe("True");
    await page.context().close();
  });

  test("everything works with the keyboard alone", async () => {
    const page = await browser.open(PHONE);
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
    await estimated(page);
    await page.keyboard.press("Enter");
    await finished(page);
    await page.context().close();
  });

  test("the page is small, and needs only its own files and two calls until it can be used", async () => {
    const page = await browser.open();
    await page.waitForFunction(() => performance.getEntriesByName("usable").length > 0);
    const time = await page.evaluate('performance.getEntriesByName("usable")[0].startTime');
    console.log(`the page can be used after ${Math.round(Number(time))} ms`);
    const loaded = await page.evaluate(() =>
      (performance.getEntriesByType("resource") as PerformanceResourceTiming[]).map(
        ({ name, encodedBodySize }) => [new URL(name).pathname, encodedBodySize] as const,
      ),
    );
    const files = loaded.filter(([path]) => !/^\/(gramophone\.v1\.|jobs\/)/.test(path));
    expect(files.map(([path]) => path.replace(/-[\w-]{8}\./, ".")).sort()).toEqual([
      "/assets/index.css",
      "/assets/index.js",
      "/icon.svg",
    ]);
    expect(files.reduce((sum, [, size]) => sum + size, 0)).toBeLessThan(150_000);
    const calls = loaded.map(([path]) => path.split("/gramophone.v1.")[1]).filter(Boolean);
    expect(new Set(calls)).toEqual(new Set(["JobService/ListJobs", "ModelService/ListModels"]));
    await page.context().close();
  });
});
