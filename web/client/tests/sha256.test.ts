import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { sha256, sha256Here } from "../src/sha256";

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const reference = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const data = (length: number) => Uint8Array.from({ length }, (_, i) => (i * 31 + length) % 256);

test("the computation without crypto.subtle agrees with Node's at all lengths around a block", () => {
  for (let length = 0; length < 200; length++) expect(hex(sha256Here(data(length)))).toBe(reference(data(length)));
});

test("a large file has the same hash by both computations", async () => {
  const large = data(3_000_001);
  expect(hex(sha256Here(large))).toBe(reference(large));
  expect(await sha256(large)).toBe(reference(large));
});
