// Details of a failed call: the invalid fields with reasons, or the delay before a retry.

import grpc from "@grpc/grpc-js";
import protobuf from "protobufjs";

// The parts of google.rpc.Status and its details that Gramophone uses; they are in the call's trailing metadata.
const { root } = protobuf.parse(`
  syntax = "proto3";
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message BadRequest { repeated FieldViolation field_violations = 1; }
  message FieldViolation { string field = 1; string description = 2; }
  message RetryInfo { Duration retry_delay = 1; }
  message Duration { int64 seconds = 1; int32 nanos = 2; }
`);

const decode = (type, bytes) => {
  const message = root.lookupType(type);
  return message.toObject(message.decode(bytes), { longs: Number });
};

/** Converts an error thrown by a call to a plain object: `{code, message, violations?, retry_after?}`, the last in seconds. */
export function explain(error) {
  if (error.code === undefined || !error.metadata) throw error; // not an error of a call
  const told = { code: grpc.status[error.code], message: error.details };
  for (const status of error.metadata.get("grpc-status-details-bin")) {
    for (const { typeUrl: url, value } of decode("Status", status).details ?? []) {
      if (url.endsWith("/google.rpc.BadRequest")) told.violations = decode("BadRequest", value).fieldViolations;
      if (url.endsWith("/google.rpc.RetryInfo")) {
        const { seconds = 0, nanos = 0 } = decode("RetryInfo", value).retryDelay ?? {};
        told.retry_after = seconds + nanos / 1e9;
      }
    }
  }
  return told;
}
