// The connection of the page to its server.

import { connect, UnauthenticatedError, UnavailableError } from "@gramophone/client";
import { signal } from "@preact/signals";

const KEY = "gramophone.token";

/** The token of the caller; kept until the tab is closed. */
export const token = signal(sessionStorage.getItem(KEY) ?? "");

/** What the server says about the token; empty if it accepts it, or asks for none. */
export const tokenProblem = signal("");

/** Whether the server has answered the latest call. */
export const online = signal(true);

/** The client of the page's server. */
export const client = connect("", { token: () => token.value, retryFor: 5 });

export function setToken(value: string): void {
  sessionStorage.setItem(KEY, value);
  token.value = value;
  tokenProblem.value = "";
}

/** Takes note of the kind of an error, and returns it as a sentence. */
export function explain(error: unknown): string {
  if (error instanceof UnauthenticatedError) {
    tokenProblem.value = token.value ? "The server does not accept this token." : "This server asks for a token.";
    return tokenProblem.value;
  }
  if (error instanceof UnavailableError && !error.answered) {
    online.value = false;
    return "The server does not answer. Is it running?";
  }
  return sentence(error instanceof Error ? error.message : String(error));
}

/** Calls the server, and notes whether it answers. */
export async function tracked<T>(call: () => Promise<T>): Promise<T> {
  const answer = await call();
  online.value = true;
  tokenProblem.value = "";
  return answer;
}

/** A text with a capital letter and a period. */
export function sentence(text: string): string {
  const trimmed = text.trim();
  const end = /[.!?]$/.test(trimmed) ? "" : ".";
  return trimmed && trimmed.charAt(0).toUpperCase() + trimmed.slice(1) + end;
}

/** Whether the server has a file with this hash. */
export async function isUploaded(sha256: string): Promise<boolean> {
  const { status } = await fetch(`images/${sha256}`, { method: "HEAD", headers: authorization() });
  return status !== 404;
}

/** Fetches a picture from a path of the server. */
export async function fetchPicture(path: string, signal?: AbortSignal): Promise<Blob> {
  const response = await fetch(path, { headers: authorization(), signal: signal ?? null });
  if (!response.ok) throw new Error(`HTTP status ${response.status}`);
  return response.blob();
}

function authorization(): HeadersInit {
  return token.value ? { Authorization: `Bearer ${token.value}` } : {};
}
