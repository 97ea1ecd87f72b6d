// Other seeds: the seed draws the noise of the initial canvas, so it changes nothing where there is none.

import type { Kind, Values } from "./form";

/** Returns the values with another seed; a canvas that would be the content alone starts from the content and noise. */
export function withSeed(values: Values, kind: Kind, seed: string): Values {
  return { ...values, "options.seed": seed, ...(startsFromContent(values, kind) && { "options.init": "blend" }) };
}

/** Whether the initial canvas is the content picture, without noise. */
export function startsFromContent(values: Values, kind: Kind): boolean {
  return (values["options.init"] || (kind === "transfer" ? "content" : "")) === "content";
}
