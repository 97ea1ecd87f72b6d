import { seconds } from "@gramophone/client";
import { bytes, duration, words } from "../lib/format";
import { missing, violations } from "../state/form";
import { estimate, isSubmitting, problem } from "../state/submit";

/** The estimate, what is missing or wrong, and the button that paints. */
export function PaintBar() {
  const isReady = !missing.value && !isSubmitting.value && violations.value.length === 0;
  return (
    <div class="paintbar">
      <div class="estimate" role="status">
        <Estimate />
      </div>
      {problem.value && problem.value !== missing.value && (
        <p class="problem" role="alert">
          {problem.value}
        </p>
      )}
      {violations.value.length > 0 && (
        <ul class="problem" aria-label="What is wrong">
          {violations.value.map(({ field, description }) => (
            <li key={field}>
              <strong>{words(field.replace(/^options\./, "").replaceAll(".", " "))}</strong> {description}.
            </li>
          ))}
        </ul>
      )}
      <button type="submit" class="primary" aria-disabled={!isReady}>
        {isSubmitting.value ? "Sending…" : "Paint"}
      </button>
    </div>
  );
}

function Estimate() {
  const known = estimate.value;
  if (missing.value) return <span>{missing.value}</span>;
  if (!known) return violations.value.length || problem.value ? null : <span>Estimating…</span>;
  const time = seconds(known.duration);
  const memory = `${bytes(Number(known.peakMemoryBytes))} of memory`;
  if (!known.fits) {
    return (
      <strong class="problem">
        This does not fit: it needs {memory}, and {bytes(Number(known.availableMemoryBytes))} are free.
      </strong>
    );
  }
  return (
    <span>
      Takes <strong>{time < 1 ? "less than 1 s" : `about ${duration(time)}`}</strong> and {memory}; {known.width} ×{" "}
      {known.height} pixels.
    </span>
  );
}
