// Paints a texture, or with --content a style transfer:
//
//   node paint.mjs ADDRESS STYLE RESULT.png [--content PICTURE] [--size N] [--iterations N] [--seed N] [--layer NAME]…
//                  [--ca FILE] [--certificate FILE --key FILE] [--job ID]
//
// First build the client: `npm ci && npm run build` in web/, then `npm install` here.
// --ca uses TLS with this authority's certificate; $GRAMOPHONE_TOKEN is the token. --job follows an earlier job again.
// Prints one JSON line per event; an error is a JSON line on standard error, and exit status 1.

import { readFile, writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { connect, GramophoneError, JobState } from "@gramophone/client/node";

const text = { type: "string" };
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    content: text, size: text, iterations: text, seed: text, ca: text, certificate: text, key: text, job: text,
    layer: { type: "string", multiple: true, default: [] },
  },
});
const [address, source, out] = positionals;
if (!out) {
  console.error("usage: node paint.mjs ADDRESS STYLE RESULT.png [--content PICTURE] [--size N] [--iterations N] [--seed N]");
  process.exit(2);
}

/** Reads the file that an option names, if it is given. */
const fileOf = (path) => path && readFile(path);

/** Submits the job. */
async function submit(client) {
  const { content, layer, size, iterations, seed } = values;
  const numbers = { size, iterations, seed };
  const options = Object.fromEntries(Object.entries(numbers).map(([name, value]) => [name, value && Number(value)]));
  const styleLayers = layer.map((name) => ({ layer: name }));
  const style = await readFile(source);
  if (content) return client.transfer(await readFile(content), style, { ...options, styleLayers });
  return client.style(style, { ...options, styleLayers });
}

/** Returns the fields of an event to print on one line. */
function summary({ jobId, sequence, state, detail }) {
  const line = { job: jobId, sequence, state: JobState[state] };
  if (detail.case === "progress") {
    const { iteration, iterations, loss, preview } = detail.value;
    return { ...line, iteration, iterations, loss, preview_bytes: preview?.data.length ?? 0 };
  }
  if (detail.case === "result") {
    const { image, loss, iterations, model } = detail.value;
    return { ...line, width: image.width, height: image.height, bytes: image.size, loss, iterations, model };
  }
  return detail.case === "error" ? { ...line, error: detail.value.message } : line;
}

try {
  const client = connect(address, {
    token: process.env.GRAMOPHONE_TOKEN,
    ca: await fileOf(values.ca),
    certificate: await fileOf(values.certificate),
    key: await fileOf(values.key),
    retryFor: Number(process.env.GRAMOPHONE_RETRY_FOR ?? 60),
  });
  const job = values.job ? client.job(values.job) : await submit(client);
  for await (const event of job.events()) console.log(JSON.stringify(summary(event)));
  const { image } = await job.result();
  await writeFile(out, image.data);
} catch (error) {
  if (!(error instanceof GramophoneError)) throw error;
  const { name, message, violations, retryAfter } = error;
  console.error(JSON.stringify({ name, message, violations, retryAfter }));
  process.exitCode = 1;
}
