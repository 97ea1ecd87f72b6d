// Gramophone's services, loaded from the .proto files alone: no generated code.

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";
import { fileURLToPath } from "node:url";

const PROTO = process.env.GRAMOPHONE_PROTO ?? fileURLToPath(new URL("../../proto", import.meta.url));

const definition = protoLoader.loadSync(
  ["style_transfer_service", "job_service", "model_service"].map((name) => `gramophone/v1/${name}.proto`),
  // `defaults: false` keeps the difference between a field that is unset and one that is zero.
  { includeDirs: [PROTO], keepCase: true, longs: Number, enums: String, defaults: false, oneofs: true },
);

/** StyleTransferService, JobService and ModelService. */
export const services = grpc.loadPackageDefinition(definition).gramophone.v1;

/** Connects one of the services, without TLS. */
export function connect(Service, address) {
  return new Service(address, grpc.credentials.createInsecure());
}

/** The file of the job of an event: its bytes are in the event, or are fetched if they are more than 3 MiB. */
export async function fileOf(event, address) {
  const { data, size } = event.result.image;
  if (data?.length === size) return data;
  const client = connect(services.JobService, address);
  try {
    const pieces = [];
    for await (const piece of client.DownloadResult({ job_id: event.job_id })) pieces.push(piece.data);
    return Buffer.concat(pieces);
  } finally {
    client.close();
  }
}
