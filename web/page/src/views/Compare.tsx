import { useState } from "preact/hooks";
import type { Picture } from "../state/pictures";

/** The picture before, over the result, as far as a slider says. */
export function Compare({ before }: { before: Picture }) {
  const [split, setSplit] = useState(0);
  const url = before.url.value;
  if (!url) return null;
  return (
    <div class="compare" style={{ "--split": `${split}%` }}>
      <img class="before" src={url} alt={`Before: ${before.name}`} />
      <span class="split" aria-hidden="true" />
      <input
        type="range"
        min={0}
        max={100}
        value={split}
        aria-label="Compare with the picture before"
        aria-valuetext={`${split} % of the picture before`}
        onInput={(event) => setSplit(Number(event.currentTarget.value))}
      />
    </div>
  );
}
