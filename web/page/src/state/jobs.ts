// The queue and the history: the latest jobs of this client.

import { isFinal, type JobInfo, JobState, type Model } from "@gramophone/client";
import { computed, signal } from "@preact/signals";
import { client, explain, online, token, tracked } from "../api";

const PAGE = 24;
const BUSY_PAUSE = 2000;
const IDLE_PAUSE = 10000;

export const jobs = signal<readonly JobInfo[]>([]);
/** Whether the list has been read once. */
export const isLoaded = signal(false);
export const hasMore = signal(false);
export const problem = signal("");
export const models = signal<readonly Model[]>([]);

const shown = signal(PAGE);
let timer: ReturnType<typeof setTimeout> | undefined;
let reading = false;

export const queued = computed(() => jobs.value.filter(({ state }) => state === JobState.QUEUED).length);

/** Reads the list now and then while the page is visible. */
export function startReading(): void {
  document.addEventListener("visibilitychange", changed);
  token.subscribe(() => {
    changed();
    void readModels();
  });
}

/** Reads the list again, because a job has changed. */
export function changed(): void {
  clearTimeout(timer);
  if (document.visibilityState === "visible") timer = setTimeout(() => void readJobs(), 50);
}

export function showMore(): void {
  shown.value += PAGE;
  changed();
}

/** Deletes an ended job. */
export async function remove(id: string): Promise<void> {
  try {
    await tracked(() => client.job(id).delete());
    jobs.value = jobs.value.filter((job) => job.id !== id);
  } catch (error) {
    problem.value = explain(error);
  }
}

/** Returns the model that jobs use if the form names none. */
export function modelOf(name: string): Model | undefined {
  return models.value.find((model) => (name ? model.name === name : model.isDefault)) ?? models.value[0];
}

async function readJobs(): Promise<void> {
  if (reading) return;
  reading = true;
  try {
    const found: JobInfo[] = [];
    hasMore.value = false;
    for await (const job of client.jobs({ pageSize: Math.min(shown.value + 1, 1000) })) {
      if (found.length === shown.value) {
        hasMore.value = true;
        break;
      }
      found.push(job);
    }
    online.value = true;
    jobs.value = found;
    problem.value = "";
    isLoaded.value = true;
    if (models.value.length === 0) void readModels();
  } catch (error) {
    problem.value = explain(error);
  } finally {
    reading = false;
  }
  clearTimeout(timer);
  const busy = !online.value || jobs.value.some(({ state }) => !isFinal(state));
  if (document.visibilityState === "visible") timer = setTimeout(() => void readJobs(), busy ? BUSY_PAUSE : IDLE_PAUSE);
}

async function readModels(): Promise<void> {
  try {
    models.value = await tracked(() => client.models());
  } catch (error) {
    problem.value = explain(error);
  }
}
