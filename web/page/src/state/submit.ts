// The estimate, the submission of the form, and grids of jobs.

import { type EstimateJobResponse, InvalidRequestError, UnavailableError } from "@gramophone/client";
import { effect, signal } from "@preact/signals";
import { client, explain, online, token, tracked } from "../api";
import { allPictures, missing, reading, requestOf, type Settings, settings, violations } from "./form";
import { changed } from "./jobs";
import { go } from "./route";
import { keepSettings } from "./stored";
import { remember } from "./watched";

const PAUSE = 400;
const RETRY_PAUSE = 2000;

export const estimate = signal<EstimateJobResponse | undefined>(undefined);
export const isSubmitting = signal(false);
/** Why the form was not submitted, if it is not about a field. */
export const problem = signal("");

/** Asks for the estimate whenever the form has changed and is complete. */
export function startEstimating(): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let asked: AbortController | undefined;
  effect(() => {
    const { request, problems } = reading.value;
    const incomplete = missing.value;
    // A problem with the token or the connection is over when it changes.
    void token.value;
    void online.value;
    clearTimeout(timer);
    asked?.abort();
    violations.value = problems;
    if (incomplete || problems.length > 0) {
      estimate.value = undefined;
      return;
    }
    const { signal } = (asked = new AbortController());
    const ask = async () => {
      try {
        const answer = await tracked(() => client.estimate(request, signal));
        if (signal.aborted) return;
        estimate.value = answer;
        problem.value = "";
      } catch (error) {
        if (signal.aborted) return;
        showProblem(error);
        // The server is starting, or the connection is lost.
        if (error instanceof UnavailableError && !signal.aborted) timer = setTimeout(ask, RETRY_PAUSE);
      }
    };
    timer = setTimeout(ask, PAUSE);
  });
}

/** Submits the form and shows the job. */
export async function submit(): Promise<void> {
  const { request, problems } = reading.value;
  violations.value = problems;
  problem.value = missing.value;
  if (missing.value || problems.length > 0 || isSubmitting.value) return;
  isSubmitting.value = true;
  try {
    const job = await tracked(() => client.submit(request));
    keepSettings(job.id, settings());
    remember(job);
    changed();
    go({ job: job.id });
    showStage();
  } catch (error) {
    showProblem(error);
  } finally {
    isSubmitting.value = false;
  }
}

/** On a phone, the picture is below the form. */
export function showStage(): void {
  if (matchMedia("(max-width: 900px)").matches) document.getElementById("stage")?.scrollIntoView();
}

/** Submits settings without following the job; returns its id. */
export async function submitQuietly(from: Settings): Promise<string> {
  const { request, problems } = requestOf(from);
  const [first] = problems;
  if (first) throw new InvalidRequestError(`${first.field} ${first.description}`, problems);
  const job = await tracked(() => client.submit(request));
  keepSettings(job.id, from);
  job.release();
  return job.id;
}

function showProblem(error: unknown): void {
  estimate.value = undefined;
  if (error instanceof InvalidRequestError && error.violations.length > 0) {
    violations.value = error.violations;
    problem.value = "";
    // The server does not have a file that the form refers to.
    if (error.violations.some(({ field }) => field.endsWith(".sha256")))
      for (const picture of allPictures()) void picture.ensure();
  } else {
    problem.value = explain(error);
  }
}
