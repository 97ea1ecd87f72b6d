// The connection over HTTP: the Connect protocol for calls, PUT for pictures.

import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { Client } from "./client.js";

export interface ConnectOptions {
  /** Token of the caller, or a function that returns the current one. Default: none. */
  token?: string | (() => string | undefined);
  /** Seconds to retry while the server cannot be reached. Default: 60. */
  retryFor?: number;
}

/**
 * Creates a client of a server's HTTP address, such as "http://localhost:8080"; for browsers and Node.js. Makes no call.
 *
 * @param url the address; in a browser, "" is the server that the page is from.
 */
export function connect(url: string, { token, retryFor }: ConnectOptions = {}): Client {
  const baseUrl = url.replace(/\/+$/, "");
  const header = () => authorization(token);
  const transport = createConnectTransport({
    baseUrl: baseUrl || location.origin,
    useBinaryFormat: true,
    interceptors: [authorize(header)],
  });
  return new Client(transport, (hash, file) => put(`${baseUrl}/images/${hash}`, file, header()), retryFor);
}

/** The header of the token; undefined without one. */
export function authorization(token: ConnectOptions["token"]): string | undefined {
  const value = typeof token === "function" ? token() : token;
  return value ? `Bearer ${value}` : undefined;
}

/** Adds the header of the token to each call. */
export function authorize(header: () => string | undefined): Interceptor {
  return (next) => (request) => {
    const value = header();
    if (value) request.header.set("Authorization", value);
    return next(request);
  };
}

async function put(url: string, file: Uint8Array, header: string | undefined): Promise<void> {
  const headers: Record<string, string> = header ? { Authorization: header } : {};
  const offset = await uploaded(url, headers);
  if (offset === file.length) return;
  if (offset > 0) headers["Content-Range"] = `bytes ${offset}-${file.length - 1}/${file.length}`;
  const response = await fetch(url, { method: "PUT", headers, body: file.subarray(offset) as BufferSource });
  if (!response.ok) throw await errorOf(response);
}

/** Returns how many bytes of the file the server has. */
async function uploaded(url: string, headers: Record<string, string>): Promise<number> {
  const response = await fetch(url, { method: "HEAD", headers });
  if (!response.ok) return 0;
  return Number(response.headers.get("Upload-Offset") ?? 0);
}

/** Converts a response with an error in the JSON form of the Connect protocol. */
export async function errorOf(response: Response): Promise<ConnectError> {
  const known = (await response.json().catch(() => ({}))) as { code?: string; message?: string; details?: unknown };
  const error = new ConnectError(
    known.message ?? `HTTP status ${response.status}`,
    codeOf(known.code, response.status),
  );
  if (Array.isArray(known.details)) {
    error.details = known.details.map(({ type, value }) => ({ type, value: bytesOf(value) }));
  }
  return error;
}

function codeOf(name: string | undefined, status: number): Code {
  const word = name?.replace(/(^|_)([a-z])/g, (_, __, letter: string) => letter.toUpperCase());
  const code = word && (Code as unknown as Record<string, Code | undefined>)[word];
  if (code) return code;
  return [429, 502, 503, 504].includes(status) ? Code.Unavailable : Code.Unknown;
}

function bytesOf(base64: string): Uint8Array {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}
