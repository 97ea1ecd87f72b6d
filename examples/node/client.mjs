// Paints a texture: node client.mjs ADDRESS PICTURE RESULT.png [--size N] [--iterations N] [--seed N] [--layer NAME]…
// Prints one JSON line per event; an error of the call is a JSON line on standard error, and exit status 1.

import { readFile, writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { explain } from "./errors.mjs";
import { connect, fileOf, services } from "./gramophone.mjs";

/** Returns the fields of an event to print on one line. */
function summary({ sequence, state, progress, result, error }) {
  const line = { sequence, state: state.replace("JOB_STATE_", "") };
  if (progress) {
    const { iteration = 0, iterations, loss, preview } = progress;
    Object.assign(line, { iteration, iterations, loss, preview_bytes: preview?.data.length ?? 0 });
  }
  if (result) {
    const { image, loss, iterations, model } = result;
    Object.assign(line, { width: image.width, height: image.height, bytes: image.size, loss, iterations, model });
  }
  return error ? { ...line, error } : line;
}

/** Streams a style reconstruction and calls `tell` with each event; resolves to the bytes of the PNG. */
async function reconstruct(address, picture, layers, options, tell) {
  const client = connect(services.StyleTransferService, address);
  try {
    const request = {
      styles: [{ image: { data: picture } }],
      style_layers: layers.map((layer) => ({ layer })),
      options,
    };
    let image;
    for await (const { event } of client.ReconstructStyle(request)) {
      tell(event);
      image = event.result && (await fileOf(event, address));
    }
    return image;
  } finally {
    client.close();
  }
}

const number = { type: "string" };
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { size: number, iterations: number, seed: number, layer: { type: "string", multiple: true, default: [] } },
});
const [address, source, out] = positionals;
if (!out) {
  console.error("usage: node client.mjs ADDRESS PICTURE RESULT.png [--size N] [--iterations N] [--seed N] [--layer NAME]…");
  process.exit(2);
}
const { layer: layers, ...numbers } = values;
const options = Object.fromEntries(Object.entries(numbers).map(([name, value]) => [name, Number(value)]));

try {
  const tell = (event) => console.log(JSON.stringify(summary(event)));
  const image = await reconstruct(address, await readFile(source), layers, options, tell);
  if (image) await writeFile(out, image);
  else process.exitCode = 1; // the job failed or was canceled; its last event says why
} catch (error) {
  console.error(JSON.stringify(explain(error)));
  process.exitCode = 1;
}
