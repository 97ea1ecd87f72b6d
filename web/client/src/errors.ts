// Errors of this package, with the details that the server sends.

import { BinaryReader } from "@bufbuild/protobuf/wire";
import { Code, ConnectError } from "@connectrpc/connect";

/** An invalid field of a request: its path, such as "options.size", and what is wrong with it. */
export interface FieldViolation {
  field: string;
  description: string;
}

/** The base of all errors that the service causes. */
export class GramophoneError extends Error {
  override get name(): string {
    return this.constructor.name;
  }
}

/** The server rejects the request; `violations` lists the invalid fields. */
export class InvalidRequestError extends GramophoneError {
  constructor(
    message: string,
    readonly violations: readonly FieldViolation[] = [],
  ) {
    super(message);
  }
}

/** The request names a job, a picture or a model that the server does not have. */
export class NotFoundError extends InvalidRequestError {}

/** The server has no room for the request now; `retryAfter` is its suggested delay in seconds. */
export class OverloadedError extends GramophoneError {
  constructor(
    message: string,
    readonly retryAfter?: number,
  ) {
    super(message);
  }
}

/** The server asks for a token, or does not know the one it was given. */
export class UnauthenticatedError extends GramophoneError {}

/** The server cannot be reached, or is not ready; `answered` says whether it has said so itself. */
export class UnavailableError extends GramophoneError {
  constructor(
    message: string,
    readonly answered = false,
  ) {
    super(message);
  }
}

/** Any other error of the server; `code` is the name of the status code, such as "failed_precondition". */
export class ServerError extends GramophoneError {
  constructor(
    message: string,
    readonly code: string,
  ) {
    super(message);
  }
}

/** The job failed; the message says why, `code` is a google.rpc.Code. */
export class JobFailedError extends GramophoneError {
  constructor(
    readonly jobId: string,
    message: string,
    readonly code: number,
  ) {
    super(message);
  }
}

/** The job was canceled. */
export class JobCancelledError extends GramophoneError {
  constructor(readonly jobId: string) {
    super(`job ${jobId} was canceled`);
  }
}

/** Converts what a call has thrown to an error of this package; an abort by the caller stays as it is. */
export function fromCall(thrown: unknown): unknown {
  if (thrown instanceof GramophoneError || isAbort(thrown)) return thrown;
  const error = ConnectError.from(thrown);
  const { violations, retryAfter } = detailsOf(error);
  const message = error.rawMessage || Code[error.code] || "unknown error";
  if (isOfTransport(error)) return new UnavailableError(`the server cannot be reached: ${message}`);
  if (error.code === Code.Unavailable) return new UnavailableError(message, true);
  switch (error.code) {
    case Code.InvalidArgument:
      return new InvalidRequestError(message, violations);
    case Code.NotFound:
      return new NotFoundError(message, violations);
    case Code.ResourceExhausted:
      return new OverloadedError(message, retryAfter);
    case Code.Unauthenticated:
      return new UnauthenticatedError(message);
    default:
      return new ServerError(message, snakeCase(Code[error.code] ?? "Unknown"));
  }
}

/** Whether the caller has aborted the call with an AbortSignal. */
export function isAbort(thrown: unknown): boolean {
  if (thrown instanceof ConnectError) return thrown.code === Code.Canceled;
  return thrown instanceof Error && thrown.name === "AbortError";
}

function isOfTransport(error: ConnectError): boolean {
  if (error.details.length > 0) return false;
  // fetch throws a TypeError if it cannot connect or loses the connection; Node's sockets have their own errors.
  if (error.cause instanceof TypeError || (error.code === Code.Unavailable && error.cause)) return true;
  return /missing EndStreamResponse|missing trailer|premature|ECONNRE|socket hang up/i.test(
    String(error.cause) + error.message,
  );
}

function snakeCase(name: string): string {
  return name.replace(/(?<=[a-z])[A-Z]/g, "_$&").toLowerCase();
}

interface Details {
  violations: FieldViolation[];
  retryAfter?: number;
}

/** Reads google.rpc.BadRequest and google.rpc.RetryInfo from the details of an error. */
function detailsOf(error: ConnectError): Details {
  const details: Details = { violations: [] };
  for (const detail of error.details) {
    if (!("type" in detail)) continue;
    if (detail.type === "google.rpc.BadRequest") {
      details.violations.push(...messages(detail.value, 1).map(violation));
    } else if (detail.type === "google.rpc.RetryInfo") {
      for (const delay of messages(detail.value, 1)) details.retryAfter = seconds(delay);
    }
  }
  return details;
}

/** Decodes a google.rpc.BadRequest.FieldViolation. */
function violation(bytes: Uint8Array): FieldViolation {
  const [field, description] = [1, 2].map((number) => {
    const [text] = messages(bytes, number);
    return new TextDecoder().decode(text);
  });
  return { field: field ?? "", description: description ?? "" };
}

/** Decodes a google.protobuf.Duration. */
function seconds(bytes: Uint8Array): number {
  const reader = new BinaryReader(bytes);
  let total = 0;
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    if (number === 1) total += Number(reader.int64());
    else if (number === 2) total += reader.int32() / 1e9;
    else reader.skip(type);
  }
  return total;
}

/** Returns the values of a length-delimited field of an encoded message. */
function messages(bytes: Uint8Array, field: number): Uint8Array[] {
  const reader = new BinaryReader(bytes);
  const found: Uint8Array[] = [];
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    if (number === field) found.push(reader.bytes());
    else reader.skip(type);
  }
  return found;
}
