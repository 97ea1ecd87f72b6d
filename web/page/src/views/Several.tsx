import { GROUPS } from "../lib/fields";
import { kind, missing } from "../state/form";
import {
  type Axis,
  addsNoise,
  axes,
  axisIds,
  axisTexts,
  listed,
  MAX_JOBS,
  problem,
  submitGrid,
  submittedJobs,
} from "../state/grid";

/** A grid: the same job with several values of one or two fields. */
export function Several() {
  const known = axes([...GROUPS.values()].flat().filter(({ path }) => kind.value === "transfer" || path.includes(".")));
  const chosen = [0, 1].flatMap((at) => {
    const axis = known.find(({ id }) => id === axisIds.value[at]);
    const values = listed(axisTexts.value[at] ?? "");
    return axis && values.length ? [{ axis, values }] : [];
  });
  const count = chosen.length ? chosen.reduce((product, { values }) => product * values.length, 1) : 0;
  const isReady = count > 0 && count <= MAX_JOBS && !missing.value && submittedJobs.value === undefined;
  return (
    <details class="more several">
      <summary>Several at once</summary>
      <p class="hint">
        Paints one picture for each value, and shows all of them in a grid. Separate values with commas.
      </p>
      <AxisFields at={0} label="Columns" known={known} />
      <AxisFields at={1} label="Rows" known={known} />
      {addsNoise(chosen) && (
        <p class="hint">
          The seed draws the noise of the initial canvas. These pictures start from the content mixed with noise,
          because the content alone has none.
        </p>
      )}
      {count > MAX_JOBS && (
        <p class="problem" role="alert">
          These are {count} pictures. A grid has at most {MAX_JOBS}.
        </p>
      )}
      {problem.value && (
        <p class="problem" role="alert">
          {problem.value}
        </p>
      )}
      <button type="button" class="button" disabled={!isReady} onClick={() => void submitGrid(chosen)}>
        {submittedJobs.value === undefined
          ? `Paint ${count} ${count === 1 ? "picture" : "pictures"}`
          : `Sending ${submittedJobs.value + 1} of ${count}…`}
      </button>
    </details>
  );
}

function AxisFields({ at, label, known }: { at: 0 | 1; label: string; known: Axis[] }) {
  const id = axisIds.value[at];
  const pick = (chosen: string) => {
    axisIds.value = at === 0 ? [chosen, axisIds.value[1]] : [axisIds.value[0], chosen];
    change(known.find((axis) => axis.id === chosen)?.example ?? "");
  };
  const change = (text: string) => {
    axisTexts.value = at === 0 ? [text, axisTexts.value[1]] : [axisTexts.value[0], text];
  };
  return (
    <div class="axis">
      <label>
        <span>{label}</span>
        <select value={id} onChange={(event) => pick(event.currentTarget.value)}>
          <option value="">{at === 0 ? "Choose…" : "None"}</option>
          {known.map((axis) => (
            <option key={axis.id} value={axis.id} selected={axis.id === id}>
              {axis.label}
            </option>
          ))}
        </select>
      </label>
      <label>
        <span>Values</span>
        <input
          type="text"
          autocomplete="off"
          spellcheck={false}
          disabled={!id}
          value={axisTexts.value[at]}
          onInput={(event) => change(event.currentTarget.value)}
        />
      </label>
    </div>
  );
}
