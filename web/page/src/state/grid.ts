// Grids: several jobs that differ in one or two fields.

import { signal } from "@preact/signals";
import { explain } from "../api";
import { labelOf, optionOf } from "../lib/fields";
import { kind, type Settings, settings, styles, values } from "./form";
import { changed } from "./jobs";
import { go } from "./route";
import { startsFromContent, withSeed } from "./seeds";
import { type Grid, keepGrid } from "./stored";
import { showStage, submitQuietly } from "./submit";

export const MAX_JOBS = 36;

const SEED = "options.seed";

/** A field that can differ: its name for the select element, its label, and how to set it. */
export interface Axis {
  id: string;
  label: string;
  example: string;
  apply: (to: Settings, text: string) => Settings;
}

/** The fields of a grid's axes as the user gives them. */
export const axisIds = signal<readonly [string, string]>([SEED, ""]);
export const axisTexts = signal<readonly [string, string]>(["0, 1, 2", ""]);
/** How many jobs are submitted already; undefined while no grid is being submitted. */
export const submittedJobs = signal<number | undefined>(undefined);
export const problem = signal("");

/** The fields that can differ. */
export function axes(options: readonly { path: string; type: string; default: string }[]): Axis[] {
  const own = options
    .filter(({ type }) => type !== "image" && type !== "weights")
    .map(({ path }) => {
      const option = optionOf(path);
      const example = option.choices.length ? option.choices.slice(0, 3).map(({ word }) => word) : [];
      return { id: path, label: labelOf(option), example: example.join(", "), apply: setting(path) };
    });
  const weights = styles.value.map((_, index) => ({
    id: `weight ${index}`,
    label: `Weight of style ${index + 1}`,
    example: "0, 0.5, 1",
    apply: weightOf(index),
  }));
  const strength = { id: "strength", label: "Strength of the style", example: "0.3, 1, 3", apply: strengthOf };
  return [...(kind.value === "transfer" ? [strength] : []), ...weights, ...own];
}

/** Whether a grid of these axes mixes noise into an initial canvas that would be the content alone. */
export function addsNoise(chosen: readonly { axis: Axis }[]): boolean {
  return chosen.some(({ axis }) => axis.id === SEED) && startsFromContent(values.value, kind.value);
}

/** The values of an axis: "0, 1, 2" or "0 1 2". */
export function listed(text: string): string[] {
  return text.split(/[,;\s]+/).filter(Boolean);
}

/** Submits a job for each combination of the axes' values, and shows the grid. */
export async function submitGrid(chosen: readonly { axis: Axis; values: string[] }[]): Promise<void> {
  const [across, down] = chosen;
  if (!across) return;
  const base = settings();
  const rows = down?.values ?? [""];
  const grid: Grid = {
    id: Date.now().toString(36),
    axes: chosen.map(({ axis, values }) => ({ label: axis.label, values })),
    jobs: [],
    problems: {},
  };
  submittedJobs.value = 0;
  problem.value = "";
  for (const row of rows) {
    for (const column of across.values) {
      try {
        const changedOnce = across.axis.apply(base, column);
        const wanted = down ? down.axis.apply(changedOnce, row) : changedOnce;
        grid.jobs.push(await submitQuietly(wanted));
      } catch (error) {
        grid.problems[grid.jobs.length] = explain(error);
        grid.jobs.push("");
      }
      submittedJobs.value = grid.jobs.length;
    }
  }
  submittedJobs.value = undefined;
  keepGrid(grid);
  changed();
  if (grid.jobs.some(Boolean)) {
    go({ grid: grid.id });
    showStage();
  } else problem.value = grid.problems[0] ?? "";
}

function setting(path: string): Axis["apply"] {
  if (path === SEED) return (to, text) => ({ ...to, values: withSeed(to.values, to.kind, text) });
  return (to, text) => ({ ...to, values: { ...to.values, [path]: text } });
}

function weightOf(index: number): Axis["apply"] {
  return (to, text) => ({
    ...to,
    styles: to.styles.map((style, i) =>
      i === index ? { ...style, values: { ...style.values, weight: text } } : style,
    ),
  });
}

function strengthOf(to: Settings, text: string): Settings {
  if (!(Number(text) > 0)) throw new Error(`the strength must be a number above 0, not "${text}"`);
  return { ...to, strength: Math.log10(Number(text)) };
}
