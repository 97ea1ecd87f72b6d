import { JobState, seconds } from "@gramophone/client";
import { useEffect, useState } from "preact/hooks";
import { sentence } from "../api";
import { duration, loss } from "../lib/format";
import type { Recipe } from "../lib/recipe";
import { content, hasContent, styles } from "../state/form";
import { queued } from "../state/jobs";
import {
  cancel,
  curve,
  file,
  isActive,
  isCanceling,
  isConnected,
  jobId,
  pictureUrl,
  problem,
  progress,
  result,
  secondsLeft,
  state,
} from "../state/watched";
import { Again } from "./Again";
import { Compare } from "./Compare";
import { LayerLosses } from "./LayerLosses";
import { LossCurve } from "./LossCurve";

/** The shown job: its picture, progress and result. */
export function Stage() {
  if (!jobId.value) return <Empty />;
  return (
    <>
      <div class="canvas">{pictureUrl.value ? <Shown /> : isActive.value && <Waiting />}</div>
      <Status />
      {isActive.value && <Progress />}
      {state.value === JobState.SUCCEEDED && <Finished />}
      {warnings().map((warning) => (
        <p key={warning} class="hint">
          {warning}
        </p>
      ))}
      <div class="figures">
        {curve.value.length > 1 && <LossCurve points={curve.value} />}
        <LayerLosses terms={result.value?.layerLosses ?? progress.value?.layerLosses ?? []} />
      </div>
    </>
  );
}

function Empty() {
  return (
    <div class="canvas empty">
      <div>
        <h2>Your picture appears here</h2>
        <p>
          Choose what to paint, add pictures, and press Paint. You can watch the picture change, and come back later:
          jobs go on without this page.
        </p>
      </div>
    </div>
  );
}

function Waiting() {
  return (
    <div class="waiting" aria-hidden="true">
      <span />
      <span />
      <span />
    </div>
  );
}

function Shown() {
  const [aspect, setAspect] = useState(1);
  const before = hasContent.value ? content.value : styles.value[0]?.picture;
  const isFinished = state.value === JobState.SUCCEEDED && file.value;
  return (
    <div class="frame" style={{ "--aspect": aspect }}>
      <img
        class="picture"
        src={pictureUrl.value}
        alt={isFinished ? "The result" : "As it is now"}
        onLoad={({ currentTarget: { naturalWidth, naturalHeight } }) => setAspect(naturalWidth / naturalHeight)}
      />
      {isFinished && before && <Compare before={before} />}
    </div>
  );
}

/** The state of the job as a sentence, which screen readers hear. */
function Status() {
  return (
    <p class={problem.value ? "status problem" : "status"} role="status">
      {statusText()}
    </p>
  );
}

function statusText(): string {
  if (problem.value) return sentence(problem.value);
  if (!isConnected.value) return "The connection is lost. The job goes on, and this page tries to follow it again.";
  if (isCanceling.value && isActive.value) return "The job stops after its current iteration.";
  switch (state.value) {
    case JobState.QUEUED:
      return queued.value > 1 ? `Waiting: ${queued.value} jobs are in the queue.` : "Waiting for the device.";
    case JobState.RUNNING:
      return progress.value ? "Painting." : "Starting: the model is loaded and the pictures are read.";
    case JobState.SUCCEEDED:
      return finishedText();
    case JobState.CANCELLED:
      return "Canceled.";
    default:
      return "Asking for the job.";
  }
}

function finishedText(): string {
  const found = result.value;
  if (!found) return "Done.";
  const { optimize } = found.timings ?? {};
  const time = optimize ? ` in ${duration(seconds(optimize))}` : "";
  return `Done: ${found.iterations} iterations${time}, loss ${loss(found.loss)}, ${found.image?.width} × ${found.image?.height} pixels, ${found.model}.`;
}

/** What the recipe says about the files of the pictures, or about options without effect. */
function warnings(): string[] {
  return result.value?.recipeJson ? ((JSON.parse(result.value.recipeJson) as Partial<Recipe>).warnings ?? []) : [];
}

function Progress() {
  const now = useNow();
  const { iteration = 0, iterations = 0, loss: value = 0, iterationsPerSecond = 0 } = progress.value ?? {};
  return (
    <div class="progress">
      <progress max={iterations || 1} value={progress.value ? iteration : undefined} aria-label="Progress" />
      <dl>
        <Fact name="Iteration" value={iterations ? `${iteration} of ${iterations}` : "–"} />
        <Fact name="Time left" value={progress.value && isConnected.value ? duration(secondsLeft(now)) : "–"} />
        <Fact name="Loss" value={progress.value ? loss(value) : "–"} />
        <Fact name="Speed" value={iterationsPerSecond ? `${iterationsPerSecond.toPrecision(2)} per second` : "–"} />
      </dl>
      <button type="button" class="button" disabled={isCanceling.value} onClick={() => void cancel()}>
        Cancel
      </button>
    </div>
  );
}

function Fact({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

function Finished() {
  return (
    <div class="finished">
      <Download />
      <Again id={jobId.value} />
    </div>
  );
}

function Download() {
  const [url, setUrl] = useState("");
  useEffect(() => {
    if (!file.value) return undefined;
    const made = URL.createObjectURL(file.value);
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [file.value]);
  if (!file.value) return <p class="hint">The file is being downloaded.</p>;
  const ending = file.value.type === "image/tiff" ? "tif" : "png";
  return (
    <a class="primary" href={url} download={`gramophone-${jobId.value}.${ending}`}>
      Download
    </a>
  );
}

/** The current time, again each half second. */
function useNow(): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 500);
    return () => clearInterval(timer);
  }, []);
  return now;
}
