// Gramophone's services, loaded from the .proto files at run time, without generated code.

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";
import { fileURLToPath } from "node:url";

const PROTO = process.env.GRAMOPHONE_PROTO ?? fileURLToPath(new URL("../../proto", import.meta.url));

const definition = protoLoader.loadSync(
  ["style_transfer_service", "job_service", "model_service"].map((name) => `gramophone/v1/${name}.proto`),
  // `defaults: false` keeps the difference between an unset field and a field that is zero.
  { includeDirs: [PROTO], keepCase: true, longs: Number, enums: String, defaults: false, oneofs: true },
);

/** StyleTransferService, JobService and ModelService. */
export const services = grpc.loadPackageDefinition(definition).gramophone.v1;

/** Creates a client of one of the services, without TLS. */
export function connect(Service, address) {
  return new Service(address, grpc.credentials.createInsecure());
}

/** Returns the result's file for a final event: from the event, or downloaded if it has more than 3 MiB. */
export async function fileOf(event, address) {
  const { data, size } = event.result.image;
  if (data?.length === size) return data;
  const client = connect(services.JobService, address);
  try {
    const chunks = [];
    for await (const chunk of client.DownloadResult({ job_id: event.job_id })) chunks.push(chunk.data);
    return Buffer.concat(chunks);
  } finally {
    client.close();
  }
}
