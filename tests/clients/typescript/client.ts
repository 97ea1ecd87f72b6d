// Paints a texture with code that protobuf-es generated: client ADDRESS PICTURE SIZE RESULT.

import { readFile, writeFile } from "node:fs/promises";
import { createClient, type Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { JobService } from "./generated/gramophone/v1/job_service_pb.js";
import type { EncodedImage } from "./generated/gramophone/v1/job_pb.js";
import { StyleTransferService } from "./generated/gramophone/v1/style_transfer_service_pb.js";

// gRPC's default limit of a received message in bytes; this transport has no limit of its own.
const LIMIT = 4 << 20;

async function download(transport: Transport, jobId: string): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  for await (const { data } of createClient(JobService, transport).downloadResult({ jobId })) pieces.push(data);
  return Buffer.concat(pieces);
}

/** Returns the result file of a job: from its last event, or by download if it is too large for an event. */
async function paint(transport: Transport, picture: Uint8Array, size: number): Promise<Uint8Array> {
  let file = new Uint8Array() as Uint8Array;
  const request = {
    styles: [{ image: { source: { case: "data" as const, value: picture } } }],
    styleLayers: [{ layer: "conv1_1" }],
    options: { size, iterations: 1, seed: 2 ** 32 - 1 },
  };
  for await (const { event } of createClient(StyleTransferService, transport).reconstructStyle(request)) {
    if (event?.detail.case !== "result") continue;
    const image: EncodedImage = event.detail.value.image!;
    // Sizes and sequences are numbers, not bigints.
    const { size, sequence }: { size: number; sequence: number } = { size: image.size, sequence: event.sequence };
    if (!(sequence > 0)) throw new Error("an event has no sequence");
    file = image.data.length < size ? await download(transport, event.jobId) : image.data;
  }
  return file;
}

const [address, picture, size, result] = process.argv.slice(2) as [string, string, string, string];
const transport = createGrpcTransport({ baseUrl: `http://${address}`, readMaxBytes: LIMIT });
await writeFile(result, await paint(transport, await readFile(picture), Number(size)));
