// Prints how long the page takes until it can be used, and its size: `node usable.js BROWSER URL RUNS`.

import { chromium } from "playwright-core";

const [executablePath, url, runs] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const usable = [];
let bytes = 0;
for (let run = 0; run < Number(runs); run++) {
  // A new profile has no files of the page.
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(url);
  await page.waitForFunction(() => performance.getEntriesByName("usable").length > 0);
  usable.push(await page.evaluate(() => performance.getEntriesByName("usable")[0].startTime));
  bytes = await page.evaluate(() =>
    [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
      .filter(({ name }) => !name.includes("/gramophone.v1."))
      .reduce((sum, { encodedBodySize }) => sum + encodedBodySize, 0),
  );
  await context.close();
}
await browser.close();
console.log(JSON.stringify({ usable, bytes }));
