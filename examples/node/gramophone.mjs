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

/** Connects one of the services, without TLS; a result may be larger than the 4 MB a client accepts by default. */
export function connect(Service, address) {
  return new Service(address, grpc.credentials.createInsecure(), { "grpc.max_receive_message_length": -1 });
}
