// What the page keeps in the browser: the settings of its jobs, and its grids.

import type { Settings } from "./form";

const JOBS = "gramophone.jobs";
const GRIDS = "gramophone.grids";
const MOST_JOBS = 80;
const MOST_GRIDS = 30;

/** A set of jobs that differ in one or two fields. */
export interface Grid {
  id: string;
  /** What differs between the columns and between the rows; the second is missing in a single row. */
  axes: { label: string; values: string[] }[];
  /** Ids of the jobs, row by row; empty for a job that was refused. */
  jobs: string[];
  /** Why a job was refused, by its position. */
  problems: Record<number, string>;
}

/** Keeps the settings of a job. */
export function keepSettings(jobId: string, settings: Settings): void {
  keep(JOBS, jobId, settings, MOST_JOBS);
}

/** Returns the settings of a job that was submitted in this browser. */
export function settingsOf(jobId: string): Settings | undefined {
  return all<Settings>(JOBS)[jobId];
}

export function keepGrid(grid: Grid): void {
  keep(GRIDS, grid.id, grid, MOST_GRIDS);
}

export function gridOf(id: string): Grid | undefined {
  return all<Grid>(GRIDS)[id];
}

/** The kept grids, the newest first. */
export function allGrids(): Grid[] {
  return Object.values(all<Grid>(GRIDS)).reverse();
}

function all<T>(key: string): Record<string, T> {
  try {
    return JSON.parse(localStorage.getItem(key) ?? "{}") as Record<string, T>;
  } catch {
    return {};
  }
}

function keep<T>(key: string, id: string, value: T, most: number): void {
  const { [id]: _, ...others } = all<T>(key);
  const entries = [...Object.entries(others), [id, value]].slice(-most);
  try {
    localStorage.setItem(key, JSON.stringify(Object.fromEntries(entries)));
  } catch {
    // The browser keeps nothing for this page, or its room is used up: the page works without.
  }
}
