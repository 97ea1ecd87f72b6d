import { expect, test } from "vitest";
import { OPTIONS } from "../src/contract";
import { GROUPS, labelOf, optionOf, read, set } from "../src/lib/fields";

const description = (path: string, text: string) => read(optionOf(path), text).violation?.description;
const value = (path: string, text: string) => read(optionOf(path), text).value;

test("every option of jobs has a field, except those that the page sets itself", () => {
  const shown = [...GROUPS.values()].flat().map(({ path }) => path);
  const hidden = OPTIONS.filter(({ group, path }) => group && !shown.includes(path)).map(({ path }) => path);
  expect(hidden.filter((path) => !path.startsWith("options.preview."))).toEqual([
    "submission.on_disconnect",
    "submission.request_id",
  ]);
});

test("labels are words, and each is used once in its group", () => {
  for (const options of GROUPS.values()) expect(new Set(options.map(labelOf)).size).toBe(options.length);
  expect(labelOf(optionOf("options.result.bit_depth"))).toBe("Result bit depth");
  expect(labelOf(optionOf("options.tv_weight"))).toBe("Total variation weight");
});

test("numbers are read within their bounds", () => {
  expect(value("options.size", " 512 ")).toBe(512);
  expect(description("options.size", "5")).toBe("must be 16 to 8,192 pixels");
  expect(description("options.size", "12.5")).toBe("must be a whole number");
  expect(description("options.size", "big")).toBe("must be a number");
  expect(description("options.seed", "-1")).toContain("must be 0 to");
  expect(value("options.seed", "4294967295")).toBe(4294967295);
  expect(description("options.learning_rate", "0")).toContain("greater than 0");
  expect(value("options.tile_size", "0")).toBe(0);
  expect(description("options.tile_size", "32")).toContain("0, or 64");
  expect(value("options.result.bit_depth", "16")).toBe(16);
  expect(description("options.result.bit_depth", "12")).toBe("must be 8 or 16 bits");
});

test("words, durations and weights become values of the contract", () => {
  expect(value("options.optimizer", "adam")).toBe(2);
  expect(description("options.optimizer", "sgd")).toBe("must be lbfgs, adam");
  expect(value("options.reproducible", "false")).toBe(false);
  expect(value("options.time_limit", "1.5")).toEqual({ seconds: 1n, nanos: 500_000_000 });
  expect(value("options.style_losses", "gram=1, spectrum=0.5")).toEqual([
    { loss: 1, weight: 1 },
    { loss: 5, weight: 0.5 },
  ]);
  expect(description("options.style_losses", "gram=x")).toContain("weight above 0");
  expect(read(optionOf("options.size"), "  ")).toEqual({});
});

test("a path becomes nested data in camelCase", () => {
  const data = {};
  set(data, "options.result.bit_depth", 16);
  set(data, "options.tv_weight", 1);
  expect(data).toEqual({ options: { result: { bitDepth: 16 }, tvWeight: 1 } });
});
