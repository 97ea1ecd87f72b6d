import { isFinal, type JobInfo, JobKind, JobState, timestampDate } from "@gramophone/client";
import { tokenProblem } from "../api";
import { moment, words } from "../lib/format";
import { hasMore, isLoaded, jobs, problem, remove, showMore } from "../state/jobs";
import { route } from "../state/route";
import { allGrids } from "../state/stored";
import { jobId } from "../state/watched";
import { useUrl } from "./useUrl";

/** The queue and the history. */
export function Jobs() {
  const grids = allGrids();
  return (
    <section class="jobs" aria-labelledby="jobs">
      <h2 id="jobs">Jobs</h2>
      {problem.value && !isLoaded.value && !tokenProblem.value && (
        <p class="problem" role="alert">
          {problem.value}
        </p>
      )}
      {isLoaded.value && jobs.value.length === 0 && (
        <p class="hint">There are no jobs yet. They stay here when you close the page.</p>
      )}
      {grids.length > 0 && (
        <p class="grids">
          <span class="hint">Grids:</span>
          {grids.map((grid) => (
            <a key={grid.id} href={`#grid=${grid.id}`} aria-current={route.value.grid === grid.id || undefined}>
              {grid.axes.map(({ label }) => label).join(" × ")} ({grid.jobs.length})
            </a>
          ))}
        </p>
      )}
      <ul>
        {jobs.value.map((job) => (
          <Item key={job.id} job={job} />
        ))}
      </ul>
      {hasMore.value && (
        <button type="button" class="button" onClick={showMore}>
          Show more
        </button>
      )}
    </section>
  );
}

function Item({ job }: { job: JobInfo }) {
  const created = job.createTime ? moment(timestampDate(job.createTime)) : "";
  const kind = words(JobKind[job.kind]?.toLowerCase() ?? "");
  return (
    <li class={job.id === jobId.value ? "current" : ""}>
      <a href={`#job=${job.id}`} aria-current={job.id === jobId.value || undefined}>
        <JobPicture job={job} alt="" />
        <span class="name">
          {kind}, {created}
        </span>
        <span class={`state ${JobState[job.state]?.toLowerCase()}`}>{stateOf(job)}</span>
      </a>
      {isFinal(job.state) && (
        <button
          type="button"
          class="remove"
          aria-label={`Delete: ${kind}, ${created}`}
          onClick={() => void remove(job.id)}
        >
          ×
        </button>
      )}
    </li>
  );
}

/** The state of a job in one or two words. */
export function stateOf({ state, progress }: JobInfo): string {
  if (state === JobState.RUNNING && progress)
    return `${Math.floor((100 * progress.iteration) / progress.iterations)} %`;
  const names: Partial<Record<JobState, string>> = {
    [JobState.QUEUED]: "Waiting",
    [JobState.RUNNING]: "Starting",
    [JobState.SUCCEEDED]: "Done",
    [JobState.FAILED]: "Failed",
    [JobState.CANCELLED]: "Canceled",
  };
  return names[state] ?? "";
}

/** A small picture of a job: its result, or its latest preview. */
export function JobPicture({ job, alt, size = 240 }: { job: JobInfo; alt: string; size?: number }) {
  const hasPicture = job.state === JobState.SUCCEEDED || (job.progress?.iteration ?? 0) > 0;
  const url = useUrl(
    hasPicture ? `jobs/${job.id}/preview?size=${size}&at=${isFinal(job.state) ? "end" : job.progress?.iteration}` : "",
  );
  return <span class="thumbnail">{hasPicture && url && <img src={url} alt={alt} loading="lazy" />}</span>;
}
