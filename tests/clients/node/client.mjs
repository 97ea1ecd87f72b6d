// Paints a texture with a channel of gRPC's defaults and code that pbjs generated: client ADDRESS PICTURE SIZE RESULT.

import { readFile, writeFile } from "node:fs/promises";
import grpc from "@grpc/grpc-js";
import root from "./generated.cjs";

const v1 = root.gramophone.v1;

/** Returns the response stream of a server-streaming method. */
function stream(client, service, method, Request, Response, request) {
  return client.makeServerStreamRequest(
    `/gramophone.v1.${service}/${method}`,
    (message) => Buffer.from(Request.encode(message).finish()),
    (bytes) => Response.decode(bytes),
    request,
  );
}

async function download(client, jobId) {
  const { DownloadResultRequest: Request, DownloadResultResponse: Response } = v1;
  const pieces = [];
  for await (const { data } of stream(client, "JobService", "DownloadResult", Request, Response, { jobId })) {
    pieces.push(data);
  }
  return Buffer.concat(pieces);
}

/** Returns the result file of a job: from its last event, or by download if it is too large for an event. */
async function paint(client, request) {
  const { ReconstructStyleRequest: Request, ReconstructStyleResponse: Response } = v1;
  let file;
  for await (const { event } of stream(client, "StyleTransferService", "ReconstructStyle", Request, Response, request)) {
    const image = event.result?.image;
    if (image) file = image.data.length < image.size ? await download(client, event.jobId) : image.data;
  }
  return file;
}

const [address, picture, size, result] = process.argv.slice(2);
const client = new grpc.Client(address, grpc.credentials.createInsecure());
try {
  const request = {
    styles: [{ image: { data: await readFile(picture) } }],
    styleLayers: [{ layer: "conv1_1" }],
    options: { size: Number(size), iterations: 1 },
  };
  await writeFile(result, await paint(client, request));
} finally {
  client.close();
}
