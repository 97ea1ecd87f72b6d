/** Client of Gramophone for Node.js, over gRPC. */

import type { SecureClientSessionOptions } from "node:http2";
import { createClient, type Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { Client } from "./client.js";
import { JobService } from "./gen/gramophone/v1/job_service_pb.js";
import { authorization, authorize, type ConnectOptions } from "./http.js";

export * from "./shared.js";

const CHUNK = 1 << 20;

export interface GrpcOptions extends ConnectOptions {
  /** Whether to use TLS. Default: if one of the options below is given. */
  tls?: boolean;
  /** Certificate of the authority that signed the server's, in PEM. Default: the system's authorities. */
  ca?: string | Buffer;
  /** The client's own certificate, in PEM, for servers that require one. */
  certificate?: string | Buffer;
  /** The key of that certificate, in PEM. */
  key?: string | Buffer;
}

/** Creates a client of a server's gRPC address, such as "localhost:50051". Makes no call. */
export function connect(address: string, options: GrpcOptions = {}): Client {
  const { ca, certificate: cert, key, token, retryFor, tls = Boolean(ca || cert || key) } = options;
  const nodeOptions: SecureClientSessionOptions = { ca, cert, key };
  const interceptors = [authorize(() => authorization(token))];
  const transport = createGrpcTransport({
    baseUrl: `${tls ? "https" : "http"}://${address}`,
    interceptors,
    nodeOptions,
  });
  return new Client(transport, (hash, file) => upload(transport, hash, file), retryFor);
}

async function upload(transport: Transport, sha256: string, file: Uint8Array): Promise<void> {
  await createClient(JobService, transport).uploadImage(chunks(sha256, file));
}

async function* chunks(sha256: string, file: Uint8Array) {
  yield { sha256 };
  for (let at = 0; at < file.length; at += CHUNK) yield { data: file.subarray(at, at + CHUNK) };
}
