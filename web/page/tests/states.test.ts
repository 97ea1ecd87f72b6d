// The page when its server asks for a token or is away, in Chromium against a real server.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connect } from "../../client/src/node";
import { addToken, folder, removeToken, Server } from "../../tests/server";
import {
  Browser,
  CONTENT,
  cancel,
  estimated,
  expectGood,
  finished,
  give,
  hasBrowser,
  paint,
  painting,
  picture,
  submit,
} from "./browser";

/** The iteration that the page shows. */
async function iteration(page: Page): Promise<number> {
  const text = await page.locator(".progress dd").first().textContent({ timeout: 5000 });
  return Number(text?.split(" ")[0]);
}

async function enterToken(page: Page, token: string): Promise<void> {
  await page.getByLabel("Token", { exact: true }).fill(token);
  await page.keyboard.press("Enter");
}

describe.skipIf(!hasBrowser)("the page of a server", () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await Browser.start();
  });
  afterAll(() => browser?.stop());

  test("that was killed follows its job again, to the same file as another client", async () => {
    const data = folder();
    const first = await Server.start("--data", data);
    const page = await browser.open({}, first.url);
    const id = await paint(page, 400, 48);
    await painting(page);
    await first.kill();
    await page.getByText("The connection is lost. The job goes on").waitFor();
    await page.getByText("Connection lost. Trying again").waitFor();
    await expectGood(page, "lost-while-painting");

    const second = await first.again("--data", data);
    await page.getByText("Painting.").waitFor();
    const before = await iteration(page);
    await expect.poll(() => iteration(page), { timeout: 60_000 }).toBeGreaterThan(before);
    expect(await page.getByText(/connection (is )?lost/i).count()).toBe(0);
    await finished(page);
    const download = page.waitForEvent("download");
    await page.getByRole("link", { name: "Download" }).click();
    const file = readFileSync(await (await download).path());
    const theirs = await connect(second.address).job(id).download();
    expect(createHash("sha256").update(file).digest("hex")).toBe(createHash("sha256").update(theirs).digest("hex"));
    await page.context().close();
    await second.stop();
  });

  test("that is away says so, keeps the form, and paints when it is back", async () => {
    const first = await Server.start();
    const page = await browser.open({}, first.url);
    await give(page, 10);
    await first.kill();
    await page.getByRole("button", { name: "Paint", exact: true }).click();
    const message = page.getByRole("alert").getByText("The server does not answer. Is it running?");
    await message.waitFor();
    await page.getByText("Connection lost. Trying again").waitFor();
    await expectGood(page, "away");

    const second = await first.again();
    await page.getByText("Connection lost. Trying again").waitFor({ state: "detached" });
    await message.waitFor({ state: "detached" });
    // The new server has no data of the old one; the page sends it the pictures again.
    await estimated(page);
    await expectGood(page, "back");
    await submit(page);
    await finished(page);
    await page.context().close();
    await second.stop();
  });

  test("with tokens asks for one, which the tab keeps", async () => {
    const tokens = join(folder(), "tokens.json");
    const token = addToken(tokens);
    const data = folder();
    const first = await Server.start("--tokens", tokens, "--data", data);
    const page = await browser.open({}, first.url);
    await page.getByText("This server asks for a token.").waitFor();
    await expectGood(page, "token-asked");
    await enterToken(page, "wrong");
    await page.getByText("The server does not accept this token.").waitFor();
    await expectGood(page, "token-wrong");
    await enterToken(page, token);
    const id = await paint(page, 20);
    await finished(page);
    await page.locator(".jobs li img").waitFor();
    expect(await page.getByLabel("Token", { exact: true }).count()).toBe(0);
    await expectGood(page, "token-accepted");
    await page.reload();
    await finished(page);
    await page.getByAltText("Content: content.png").waitFor();
    expect(await page.getByLabel("Token", { exact: true }).count()).toBe(0);

    await paint(page, 3000);
    await painting(page);
    await first.kill();
    await page.getByText("The connection is lost. The job goes on").waitFor();
    const second = await first.again("--tokens", tokens, "--data", data);
    await page.getByText("Painting.").waitFor();
    await cancel(page);

    removeToken(tokens);
    await page
      .getByRole("button", { name: /^Delete: / })
      .first()
      .click();
    await page.getByText("The server does not accept this token.").waitFor();
    await expectGood(page, "token-removed");
    await page.context().close();

    const other = await browser.open({}, second.url);
    await other.goto(`${second.url}/#job=${id}`);
    await picture(other, "Content").setInputFiles(CONTENT);
    await other.getByText("This server asks for a token.", { exact: true }).first().waitFor();
    expect(await other.getByText(/connection (is )?lost/i).count()).toBe(0);
    await expectGood(other, "token-asked-for-a-job");
    await enterToken(other, addToken(tokens));
    await finished(other);
    await other.getByText("Choose a style picture.").waitFor();
    await other.context().close();
    await second.stop();
  });
});
