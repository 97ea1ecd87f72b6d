// The job that the page shows and follows.

import {
  type EncodedImage,
  isFinal,
  type Job,
  type JobEvent,
  type JobKind,
  type JobResult,
  JobState,
  type Progress,
  seconds,
} from "@gramophone/client";
import { batch, computed, signal } from "@preact/signals";
import { client, explain, online, tracked } from "../api";
import { isEmpty, load } from "./form";
import { changed } from "./jobs";
import { settingsOf } from "./stored";

export interface Point {
  iteration: number;
  loss: number;
}

export const jobId = signal("");
export const jobKind = signal<JobKind | undefined>(undefined);
export const state = signal<JobState | undefined>(undefined);
export const progress = signal<Progress | undefined>(undefined);
export const curve = signal<readonly Point[]>([]);
export const result = signal<JobResult | undefined>(undefined);
/** URL of the latest preview, then of the result. */
export const pictureUrl = signal("");
/** The result's file. */
export const file = signal<Blob | undefined>(undefined);
/** Why the job failed or cannot be shown, as a sentence. */
export const problem = signal("");
export const isConnected = signal(true);
export const isCanceling = signal(false);
/** Time of the latest progress, to count down the time left. */
export const progressTime = signal(0);

export const isActive = computed(
  () => jobId.value !== "" && !problem.value && (state.value === undefined || !isFinal(state.value)),
);

/** Milliseconds between two updates of the page. */
const FRAME_PAUSE = 40;

let points: Point[] = [];
let taken: Progress | undefined;
let takenPreview: EncodedImage | undefined;
let timer: ReturnType<typeof setTimeout> | undefined;
const submitted = new Map<string, Job>();
let following: AbortController | undefined;

/** Remembers a new job, so that `watch` reads the stream of its submission. */
export function remember(job: Job): void {
  submitted.set(job.id, job);
}

/** Shows a job and follows it until it ends; no id shows none. */
export async function watch(id: string): Promise<void> {
  following?.abort(new DOMException("another job is shown", "AbortError"));
  clear(id);
  if (!id) return;
  following = new AbortController();
  const { signal } = following;
  const job = submitted.get(id) ?? client.job(id);
  submitted.delete(id);
  restoreForm(id);
  try {
    void showKind(job, signal);
    for await (const event of job.events({ signal, retryFor: Number.POSITIVE_INFINITY, onConnection: setConnected }))
      show(event);
  } catch (error) {
    if (!signal.aborted) problem.value = explain(error);
  }
  if (!signal.aborted) changed();
}

/** Cancels the shown job. */
export async function cancel(): Promise<void> {
  isCanceling.value = true;
  try {
    await tracked(() => client.job(jobId.value).cancel());
  } catch (error) {
    problem.value = explain(error);
  }
}

function setConnected(connected: boolean): void {
  isConnected.value = connected;
  online.value = connected;
}

function clear(id: string): void {
  clearTimeout(timer);
  timer = taken = takenPreview = undefined;
  points = [];
  batch(() => {
    jobId.value = id;
    jobKind.value = undefined;
    state.value = undefined;
    progress.value = undefined;
    curve.value = [];
    result.value = undefined;
    file.value = undefined;
    problem.value = "";
    isConnected.value = true;
    isCanceling.value = false;
    showPicture("");
  });
}

/** After a reload the form has the settings of the shown job. */
function restoreForm(id: string): void {
  const settings = settingsOf(id);
  if (settings && isEmpty()) load(settings, id);
}

async function showKind(job: Job, signal: AbortSignal): Promise<void> {
  const info = await job.info().catch(() => undefined);
  if (info && !signal.aborted) jobKind.value = info.kind;
}

function show(event: JobEvent): void {
  const { detail } = event;
  if (detail.case === "progress") takeProgress(detail.value);
  else showTaken();
  batch(() => {
    if (event.state !== state.value) changed();
    state.value = event.state;
    if (detail.case === "error") problem.value = detail.value.message;
    else if (detail.case === "result") void showResult(event.jobId, detail.value);
  });
}

/** Keeps a progress event until `showTaken`: a job's history can have many thousands of them at once. */
function takeProgress(next: Progress): void {
  const { iteration, loss, preview } = next;
  // A worker that was lost starts again at an earlier iteration.
  if ((points.at(-1)?.iteration ?? -1) >= iteration) points = points.filter((point) => point.iteration < iteration);
  points.push({ iteration, loss });
  taken = next;
  takenPreview = preview ?? takenPreview;
  timer ??= setTimeout(showTaken, FRAME_PAUSE);
}

/** Shows the latest progress. */
function showTaken(): void {
  clearTimeout(timer);
  timer = undefined;
  if (!taken) return;
  const [next, preview] = [taken, takenPreview];
  taken = takenPreview = undefined;
  batch(() => {
    curve.value = [...points];
    progress.value = next;
    progressTime.value = Date.now();
    if (preview) {
      showPicture(URL.createObjectURL(new Blob([preview.data as BlobPart], { type: typeOf(preview.data) })));
    }
  });
}

async function showResult(id: string, found: JobResult): Promise<void> {
  result.value = found;
  try {
    const image = found.image;
    const data = image && image.data.length === image.size ? image.data : await client.job(id).download();
    if (jobId.value !== id) return;
    const blob = new Blob([data as BlobPart], { type: typeOf(data) });
    batch(() => {
      file.value = blob;
      // Browsers show no TIFF: keep the last preview.
      if (blob.type !== "image/tiff") showPicture(URL.createObjectURL(blob));
    });
  } catch (error) {
    if (jobId.value === id) problem.value = explain(error);
  }
}

function showPicture(url: string): void {
  const old = pictureUrl.value;
  pictureUrl.value = url;
  if (old) setTimeout(() => URL.revokeObjectURL(old), 1000);
}

/** The media type of a picture file, by its first bytes. */
function typeOf(data: Uint8Array): string {
  switch (data[0]) {
    case 0x89:
      return "image/png";
    case 0xff:
      return "image/jpeg";
    case 0x52:
      return "image/webp";
    default:
      return "image/tiff";
  }
}

/** Seconds until the job ends, by its latest progress. */
export function secondsLeft(now: number): number {
  const since = (now - progressTime.value) / 1000;
  return Math.max(0, seconds(progress.value?.remaining) - since);
}

export function isSucceeded(): boolean {
  return state.value === JobState.SUCCEEDED;
}
