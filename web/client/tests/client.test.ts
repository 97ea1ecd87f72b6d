// The client against a real server, over HTTP and over gRPC.

import { createHash } from "node:crypto";
import { request } from "node:http";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { png } from "../../tests/pictures";
import { addToken, folder, Server } from "../../tests/server";
import type { Client } from "../src/client";
import {
  connect as connectHttp,
  type InvalidRequestError,
  JobCancelledError,
  JobState,
  NotFoundError,
  type Progress,
  UnauthenticatedError,
  UnavailableError,
} from "../src/index";
import { connect as connectGrpc } from "../src/node";

// The errors of both entries are the same classes, because this test imports the sources.
let server: Server;
const small = { size: 48, iterations: 30 };

beforeAll(async () => {
  server = await Server.start();
});
afterAll(() => server.stop());

async function thrown<T>(work: Promise<unknown>): Promise<T> {
  return work.then(
    () => Promise.reject(new Error("nothing was thrown")),
    (error) => error as T,
  );
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

describe.each(["HTTP", "gRPC"])("over %s", (protocol) => {
  let client: Client;
  beforeAll(() => {
    client = protocol === "HTTP" ? connectHttp(server.url) : connectGrpc(server.address);
  });

  test("a job yields frames with previews, and its result is the file that the server has", async () => {
    const job = await client.style(png(), { ...small, seed: 7 });
    const frames = await all<Progress>(job);
    expect(frames.at(-1)?.iteration).toBe(30);
    expect(frames.some(({ preview }) => preview?.data.length)).toBe(true);
    const { image, recipeJson } = await job.result();
    expect(JSON.parse(recipeJson).seed).toBe(7);
    expect(
      createHash("sha256")
        .update(image?.data ?? "")
        .digest("hex"),
    ).toBe(image?.sha256);
    expect(Buffer.from(await job.download()).equals(Buffer.from(image?.data ?? []))).toBe(true);
  });

  test("a job's input, as the job uses it, gives the same loss again", async () => {
    const job = await client.style(png(96, 80, 5), { ...small, seed: 7 });
    const { loss, recipeJson } = await job.result();
    const { sha256 } = JSON.parse(recipeJson).styles[0];
    const copy = await job.downloadInput(sha256);
    expect([...copy.subarray(1, 4)].map((byte) => String.fromCharCode(byte)).join("")).toBe("PNG");
    const again = await client.style(copy, { ...small, seed: 7 });
    expect((await again.result()).loss).toBe(loss);
    await expect(job.downloadInput("0".repeat(64))).rejects.toThrow(NotFoundError);
  });

  test("a transfer takes weights, scales and masks, and a picture of more than 4 MiB", async () => {
    const noise = png(1400, 1200, 3);
    const large = Buffer.concat([noise, Buffer.alloc(Math.max(0, 5 << 20) - noise.length)]);
    const styles = [{ image: png(64, 64, 1), weight: 2, scale: 1.5, mask: png(32, 32) }, png(64, 64, 2)];
    const job = await client.transfer(large, styles, { ...small, iterations: 2 });
    const { recipeJson } = await job.result();
    const recipe = JSON.parse(recipeJson);
    expect(recipe.styles.map(({ share }: { share: number }) => Number(share.toFixed(3)))).toEqual([0.667, 0.333]);
    expect(recipe.styles[0].mask).not.toBeNull();
  });

  test("a job is found by its id and followed again from its start", async () => {
    const { id } = await client.content(png(), { ...small, seed: 1 });
    const again = client.job(id);
    const frames = await all<Progress>(again);
    expect(frames.at(-1)?.iteration).toBe(30);
    expect(again.state).toBe(JobState.SUCCEEDED);
    expect((await again.info()).result?.image?.width).toBe(48);
    expect((await all(client.jobs())).map((job) => job.id)).toContain(id);
  });

  test("leaving a loop does not stop the job, and another loop goes on", async () => {
    const job = await client.style(png(), { ...small, iterations: 60, reportEvery: 5 });
    for await (const frame of job) if (frame.iteration > 0) break;
    expect((await all<Progress>(job)).at(-1)?.iteration).toBe(60);
  });

  test("a canceled job ends its loop with an error", async () => {
    const job = await client.style(png(), { size: 128, iterations: 100_000 });
    const error = thrown<JobCancelledError>(all(job));
    await job.cancel();
    expect(await error).toBeInstanceOf(JobCancelledError);
    await job.delete();
    expect(await thrown(job.info())).toBeInstanceOf(NotFoundError);
  });

  test("an error names each field and what it takes", async () => {
    const error = await thrown<InvalidRequestError>(client.style(png(), { size: 5, iterations: 0 }));
    expect(error.violations.map(({ field }) => field)).toEqual(["options.size", "options.iterations"]);
    expect(error.violations[0]?.description).toContain("must be 16 to 8192");
  });

  test("the estimate needs no job", async () => {
    const { sha256 } = await client.upload(png());
    const styles = [{ image: { source: { case: "sha256" as const, value: sha256 } } }];
    const estimate = await client.estimate({ case: "style", value: { styles, options: { size: 64 } } });
    expect([estimate.fits, estimate.width]).toEqual([true, 64]);
    expect(Number(estimate.peakMemoryBytes)).toBeGreaterThan(1e7);
  });

  test("the models have layers", async () => {
    const [first] = await client.models();
    expect(first?.isDefault).toBe(true);
    expect(first?.layers.map(({ name }) => name)).toContain("conv1_1");
  });

  test("a loop ends by its signal, and the job goes on", async () => {
    const job = await client.style(png(), { size: 128, iterations: 100_000 });
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 200);
    await thrown(all(job.events({ signal: controller.signal })));
    expect([JobState.QUEUED, JobState.RUNNING]).toContain((await job.info()).state);
    await job.cancel();
  });

  test("a server that does not answer is named as such", async () => {
    const nowhere =
      protocol === "HTTP"
        ? connectHttp("http://127.0.0.1:1", { retryFor: 0 })
        : connectGrpc("127.0.0.1:1", { retryFor: 0 });
    expect(await thrown(nowhere.models())).toBeInstanceOf(UnavailableError);
  });
});

test("a stream goes on after the server was killed and started again", async () => {
  const data = folder();
  const first = await Server.start("--data", data);
  const client = connectHttp(first.url, { retryFor: 90 });
  const job = await client.style(png(), { size: 64, iterations: 300, reportEvery: 20 });
  const lost: boolean[] = [];
  let second: Server | undefined;
  let last = 0;
  for await (const event of job.events({ onConnection: (connected) => lost.push(connected) })) {
    if (event.detail.case !== "progress") continue;
    last = event.detail.value.iteration;
    if (second) continue;
    await first.kill();
    second = await first.again("--data", data);
  }
  expect(lost).toEqual([false, true]);
  expect(last).toBe(300);
  expect(job.state).toBe(JobState.SUCCEEDED);
  await second?.stop();
});

test("an upload over HTTP goes on where an earlier one ended", async () => {
  const file = Buffer.concat([png(100, 100, 9), Buffer.alloc(2 << 20)]);
  const hash = createHash("sha256").update(file).digest("hex");
  const url = `${server.url}/images/${hash}`;
  const interrupted = request(url, { method: "PUT", headers: { "Content-Length": file.length } });
  interrupted.on("error", () => undefined);
  interrupted.write(file.subarray(0, 1 << 20), () => setTimeout(() => interrupted.destroy(), 300));
  const offset = () => fetch(url, { method: "HEAD" }).then(({ headers }) => Number(headers.get("Upload-Offset")));
  await expect.poll(offset, { timeout: 20_000 }).toBe(1 << 20);
  const sent: number[] = [];
  const original = globalThis.fetch;
  globalThis.fetch = (input, init) => {
    if (init?.body instanceof Uint8Array) sent.push(init.body.length);
    return original(input, init);
  };
  try {
    const client = connectHttp(server.url);
    expect(await client.upload(file)).toEqual({ sha256: hash });
    expect(await client.upload(file)).toEqual({ sha256: hash });
  } finally {
    globalThis.fetch = original;
  }
  expect(sent).toEqual([file.length - (1 << 20)]);
});

test("a server with tokens wants one, and takes the right one", async () => {
  const file = join(folder(), "tokens.json");
  const token = addToken(file);
  const guarded = await Server.start("--tokens", file);
  try {
    for (const [wrong, right] of [
      [connectHttp(guarded.url, { token: "wrong" }), connectHttp(guarded.url, { token })],
      [connectGrpc(guarded.address), connectGrpc(guarded.address, { token })],
    ] as const) {
      expect(await thrown(wrong.models())).toBeInstanceOf(UnauthenticatedError);
      expect(await thrown(wrong.upload(png()))).toBeInstanceOf(UnauthenticatedError);
      const changes: boolean[] = [];
      const events = wrong.job("0".repeat(30)).events({ onConnection: (connected) => changes.push(connected) });
      expect(await thrown(all(events))).toBeInstanceOf(UnauthenticatedError);
      expect(changes).toEqual([]);
      expect((await right.models()).length).toBeGreaterThan(0);
      expect((await right.upload(png())).sha256).toHaveLength(64);
    }
  } finally {
    await guarded.stop();
  }
});
