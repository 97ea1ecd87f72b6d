import { expect, test } from "vitest";
import { bytes, duration, loss, moment, words } from "../src/lib/format";

test("durations have at most two units", () => {
  expect([0.2, 8.4, 59.6, 65, 120, 3599, 3600, 8100].map(duration)).toEqual([
    "less than 1 s",
    "8 s",
    "1 min",
    "1 min 5 s",
    "2 min",
    "59 min 59 s",
    "1 h",
    "2 h 15 min",
  ]);
});

test("sizes have a unit", () => {
  expect([12, 950_000, 1_234_567_890].map(bytes)).toEqual(["12 B", "950 kB", "1.2 GB"]);
});

test("losses have three digits", () => {
  expect([0, 1.23456, 0.00012, 123456].map(loss)).toEqual(["0", "1.23", "1.20e-4", "1.23e+5"]);
});

test("only other days have a date", () => {
  const now = new Date(2026, 4, 5, 12);
  expect(moment(now, now)).not.toContain(",");
  expect(moment(new Date(2026, 4, 4, 12), now)).toContain(",");
});

test("names become words", () => {
  expect(["learning_rate", "tv_weight", "lbfgs_history"].map(words)).toEqual([
    "Learning rate",
    "Total variation weight",
    "L-BFGS history",
  ]);
});
