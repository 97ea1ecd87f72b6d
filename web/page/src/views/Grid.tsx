import type { JobInfo } from "@gramophone/client";
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { client, explain } from "../api";
import { jobs } from "../state/jobs";
import { type Grid as GridData, gridOf } from "../state/stored";
import { JobPicture, stateOf } from "./Jobs";

/** Jobs of the shown grid that are not in the list of the latest jobs. */
const older = signal<Record<string, JobInfo>>({});

/** Several jobs as a table. */
export function Grid({ id }: { id: string }) {
  const grid = gridOf(id);
  useEffect(() => {
    if (grid) void readOlder(grid);
  }, [id, jobs.value.length === 0]);
  if (!grid)
    return <p class="status problem">This grid is not known in this browser. Its pictures are among the jobs below.</p>;
  const [columns, rows] = grid.axes;
  if (!columns) return null;
  return (
    <>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: the arrow keys scroll it. */}
      <section class="grid" aria-label="Grid of pictures" tabIndex={0}>
        <table>
          <caption>{rows ? `${columns.label} by ${rows.label.toLowerCase()}` : columns.label}</caption>
          <thead>
            <tr>
              {rows && <td />}
              {columns.values.map((value) => (
                <th key={value} scope="col">
                  {columns.label} {value}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {(rows?.values ?? [""]).map((row, at) => (
              <tr key={row}>
                {rows && (
                  <th scope="row">
                    {rows.label} {row}
                  </th>
                )}
                {columns.values.map((column, index) => (
                  <td key={column}>
                    <Cell
                      grid={grid}
                      at={at * columns.values.length + index}
                      label={[column, row].filter(Boolean).join(", ")}
                    />
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </section>
    </>
  );
}

function Cell({ grid, at, label }: { grid: GridData; at: number; label: string }) {
  const id = grid.jobs[at];
  if (!id) return <p class="problem">{grid.problems[at] ?? "Not submitted."}</p>;
  const job = jobs.value.find((one) => one.id === id) ?? older.value[id];
  return (
    <a href={`#job=${id}`} aria-label={`${label}: ${job ? stateOf(job) : "not known"}`}>
      {job ? <JobPicture job={job} alt="" size={320} /> : <span class="thumbnail" />}
      <span class="state">{job ? stateOf(job) : ""}</span>
    </a>
  );
}

async function readOlder(grid: GridData): Promise<void> {
  for (const id of grid.jobs) {
    if (!id || jobs.value.some((job) => job.id === id) || older.value[id]) continue;
    try {
      older.value = { ...older.value, [id]: await client.job(id).info() };
    } catch (error) {
      explain(error);
    }
  }
}
