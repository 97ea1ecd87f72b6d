// Jobs: their events, frames, results and cancellation.

import type { Duration } from "@bufbuild/protobuf/wkt";
import type { Services } from "./client.js";
import { fromCall, JobCancelledError, JobFailedError, ServerError, UnavailableError } from "./errors.js";
import {
  type JobEvent,
  type Job as JobInfo,
  type JobResult,
  JobState,
  type Progress,
} from "./gen/gramophone/v1/job_pb.js";
import { Attempts, retried } from "./retry.js";
import { sha256 } from "./sha256.js";

const FINAL: readonly JobState[] = [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED];

/** Whether no other state can follow. */
export function isFinal(state: JobState): boolean {
  return FINAL.includes(state);
}

/** Converts a duration of the contract to seconds. */
export function seconds(duration: Duration | undefined): number {
  return duration ? Number(duration.seconds) + duration.nanos / 1e9 : 0;
}

/** The events of a call that streams them. */
export type Events = AsyncIterable<{ event?: JobEvent | undefined }>;

/** The stream of a submission, which its first reader reads on. */
export interface Submission {
  events: AsyncIterator<{ event?: JobEvent | undefined }>;
  abort: () => void;
}

export interface Following {
  /** Only events with a higher sequence number. Default: all of them. */
  after?: number;
  /** Ends the loop with an AbortError; the job continues. */
  signal?: AbortSignal;
  /** Seconds to reconnect after the connection is lost. Default: the client's. */
  retryFor?: number;
  /** Is called with false when the connection is lost, and with true when it is back. */
  onConnection?: (connected: boolean) => void;
}

/**
 * A job on the server; created by a Client.
 *
 * `for await (const frame of job)` yields its progress until it ends. The stream reconnects after a broken connection and
 * after a restart of the server. Leaving the loop does not stop the job; `cancel` does.
 */
export class Job implements AsyncIterable<Progress> {
  #services: Services;
  #unread: Submission | undefined;
  #last: JobEvent | undefined;

  constructor(
    services: Services,
    readonly id: string,
    first?: JobEvent,
    unread?: Submission,
  ) {
    this.#services = services;
    this.#last = first;
    this.#unread = unread;
  }

  /** The state after the latest received event; undefined before the first. */
  get state(): JobState | undefined {
    return this.#last?.state;
  }

  /**
   * Yields the frames of the job until it ends: numbers, and mostly a preview. The server skips a frame if a newer one is
   * ready before it was sent. A second loop starts with the history: the numbers of all frames and the latest preview.
   *
   * @throws JobFailedError, JobCancelledError: the job failed or was canceled.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<Progress, void, undefined> {
    for await (const event of this.events()) if (event.detail.case === "progress") yield event.detail.value;
    throwUnlessSucceeded(this.#last);
  }

  /** Yields the events of the job until it ends, with its final state as the last. */
  async *events({
    after = 0,
    signal,
    retryFor,
    onConnection,
  }: Following = {}): AsyncGenerator<JobEvent, void, undefined> {
    const attempts = new Attempts(retryFor ?? this.#services.retryFor, signal);
    let connected = true;
    const tell = (now: boolean) => {
      if (now !== connected) onConnection?.(now);
      connected = now;
    };
    if (after === 0 && this.#unread && this.#last) {
      after = this.#last.sequence;
      yield this.#last;
    }
    for (;;) {
      try {
        for await (const { event } of this.#open(after, signal)) {
          attempts.progress();
          tell(true);
          if (!event) continue;
          this.#last = event;
          after = event.sequence;
          yield event;
          if (isFinal(event.state)) return;
        }
        throw new UnavailableError("the server ended the stream too early");
      } catch (error) {
        if (!signal?.aborted && fromCall(error) instanceof UnavailableError) tell(false);
        await attempts.wait(error);
      }
    }
  }

  /**
   * Waits until the job ends and returns its result, with the complete file in `image.data`.
   *
   * @throws JobFailedError, JobCancelledError: the job failed or was canceled.
   */
  async result(signal?: AbortSignal): Promise<JobResult> {
    if (!this.#last || !isFinal(this.#last.state)) {
      for await (const _ of this.events({ after: this.#last?.sequence ?? 0, signal }));
    }
    throwUnlessSucceeded(this.#last);
    const detail = this.#last?.detail;
    if (detail?.case !== "result" || !detail.value.image) throw new ServerError("the job has no result", "internal");
    const { image } = detail.value;
    if (image.data.length < image.size) image.data = await this.download({ signal });
    return detail.value;
  }

  /** Cancels the job: it stops after its current iteration. A job that has ended does not change. */
  async cancel(): Promise<void> {
    await this.#call(() => this.#services.jobs.cancelJob({ jobId: this.id }));
  }

  /** Deletes the job, which has ended, and its result. */
  async delete(): Promise<void> {
    await this.#call(() => this.#services.jobs.deleteJob({ jobId: this.id }));
  }

  /** Returns the current state of the job on the server, with its result if it has one. */
  async info(): Promise<JobInfo> {
    const { job } = await this.#call(() => this.#services.jobs.getJob({ jobId: this.id }));
    if (!job) throw new ServerError("the response has no job", "internal");
    return job;
  }

  /**
   * Downloads the result's file; resumes after a broken connection and compares its SHA-256.
   *
   * @param options.onProgress is called with the bytes received so far and the size of the file.
   */
  async download(
    options: { signal?: AbortSignal; onProgress?: (received: number, size: number) => void } = {},
  ): Promise<Uint8Array> {
    const attempts = new Attempts(this.#services.retryFor, options.signal);
    let file: Uint8Array | undefined;
    let hash = "";
    let offset = 0;
    await retried(attempts, async () => {
      const request = { jobId: this.id, offset };
      for await (const chunk of this.#services.jobs.downloadResult(request, { signal: options.signal })) {
        attempts.progress();
        hash ||= chunk.sha256;
        file ??= new Uint8Array(chunk.size);
        file.set(chunk.data, offset);
        offset += chunk.data.length;
        options.onProgress?.(offset, file.length);
      }
      if (!file || offset < file.length) throw new UnavailableError("the server ended the stream too early");
    });
    if (!file || (await sha256(file)) !== hash)
      throw new ServerError("the file was damaged on its way: its SHA-256 differs", "data_loss");
    return file;
  }

  /**
   * Downloads a picture or mask that the job was given, as a PNG of the size at which the job uses it; begins again after
   * a broken connection.
   *
   * @param sha256 SHA-256 of the file that the job was given, as in the recipe of its result. Maps of regions are not
   *   available.
   */
  async downloadInput(sha256: string, options: { signal?: AbortSignal } = {}): Promise<Uint8Array> {
    const attempts = new Attempts(this.#services.retryFor, options.signal);
    return retried(attempts, async () => {
      let file: Uint8Array | undefined;
      let offset = 0;
      for await (const chunk of this.#services.jobs.downloadInput({ jobId: this.id, sha256 }, options)) {
        attempts.progress();
        file ??= new Uint8Array(chunk.size);
        file.set(chunk.data, offset);
        offset += chunk.data.length;
      }
      if (!file || offset < file.length) throw new UnavailableError("the server ended the stream too early");
      return file;
    });
  }

  /** Closes the stream of the submission, if no loop has read it; the job continues. */
  release(): void {
    this.#unread?.abort();
    this.#unread = undefined;
  }

  /** The stream of the submission if nobody has read it, else a new one. */
  #open(after: number, signal?: AbortSignal): Events {
    const unread = this.#unread;
    this.#unread = undefined;
    if (unread && after === this.#last?.sequence) return rest(unread, signal);
    unread?.abort();
    return this.#services.jobs.watchJob({ jobId: this.id, afterSequence: after }, { signal });
  }

  async #call<T>(call: () => Promise<T>): Promise<T> {
    return retried(new Attempts(this.#services.retryFor), call);
  }
}

function throwUnlessSucceeded(event: JobEvent | undefined): void {
  if (event?.state === JobState.CANCELLED) throw new JobCancelledError(event.jobId);
  if (event?.detail.case === "error")
    throw new JobFailedError(event.jobId, event.detail.value.message, event.detail.value.code);
}

/** The rest of a submission's stream, which was opened without the signal. */
async function* rest({ events, abort }: Submission, signal?: AbortSignal): Events {
  signal?.addEventListener("abort", abort, { once: true });
  try {
    if (signal?.aborted) abort();
    for (;;) {
      const next = await events.next();
      if (next.done) return;
      yield next.value;
    }
  } finally {
    signal?.removeEventListener("abort", abort);
    abort();
  }
}
