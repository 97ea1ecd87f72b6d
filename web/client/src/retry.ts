// Retries of calls while the server cannot be reached.

import { fromCall, UnavailableError } from "./errors.js";

const FIRST_PAUSE = 100;
const LONGEST_PAUSE = 2000;

/** The attempts of one call. Every call of the contract is safe to retry. */
export class Attempts {
  #pause = FIRST_PAUSE;
  #lost: number | undefined;

  /**
   * @param retryFor seconds to retry while the server cannot be reached; 0 for no retries.
   * @param signal ends the pauses.
   */
  constructor(
    readonly retryFor: number,
    readonly signal?: AbortSignal,
  ) {}

  /** Tells that the server has answered. */
  progress(): void {
    this.#lost = undefined;
    this.#pause = FIRST_PAUSE;
  }

  /** Waits before the next attempt, or throws if the error is final. */
  async wait(thrown: unknown): Promise<void> {
    const error = fromCall(thrown);
    this.#lost ??= Date.now();
    const late = Date.now() - this.#lost >= 1000 * this.retryFor;
    if (!(error instanceof UnavailableError) || late || this.signal?.aborted) throw error;
    await pause(this.#pause * (0.5 + Math.random() / 2), this.signal);
    this.#pause = Math.min(2 * this.#pause, LONGEST_PAUSE);
  }
}

/** Calls a function until it succeeds or its error is final. */
export async function retried<T>(attempts: Attempts, call: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      await attempts.wait(error);
    }
  }
}

function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(done, milliseconds);
    function done(): void {
      signal?.removeEventListener("abort", aborted);
      resolve();
    }
    function aborted(): void {
      clearTimeout(timer);
      reject(signal?.reason);
    }
    signal?.addEventListener("abort", aborted, { once: true });
  });
}
