import { loss } from "../lib/format";
import type { Point } from "../state/watched";

const WIDTH = 480;
const HEIGHT = 150;

/** Most points that are drawn. */
const MOST = 480;

/** The loss by iterations, on a logarithmic scale. */
export function LossCurve({ points }: { points: readonly Point[] }) {
  const shown = thinned(points.filter((point) => point.loss > 0));
  const [first, last] = [shown[0], shown.at(-1)];
  if (!first || !last || first === last) return null;
  const logs = shown.map((point) => Math.log10(point.loss));
  const [low, high] = [Math.min(...logs), Math.max(...logs)];
  const x = (iteration: number) => (WIDTH * (iteration - first.iteration)) / (last.iteration - first.iteration);
  const y = (log: number) => HEIGHT - 4 - ((HEIGHT - 8) * (log - low)) / (high - low || 1);
  const line = shown.map((point, i) => `${x(point.iteration).toFixed(1)},${y(logs[i] as number).toFixed(1)}`).join(" ");
  const text = `The loss fell from ${loss(first.loss)} at iteration ${first.iteration} to ${loss(last.loss)} at iteration ${last.iteration}.`;
  return (
    <figure class="curve">
      <figcaption>Loss, on a logarithmic scale</figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={text}>
        <path class="area" d={`M0,${HEIGHT} L${line.replaceAll(" ", " L")} L${WIDTH},${HEIGHT} Z`} />
        <polyline points={line} />
      </svg>
      <p class="ends" aria-hidden="true">
        <span>{loss(first.loss)}</span>
        <span>iteration {last.iteration}</span>
        <span>{loss(last.loss)}</span>
      </p>
    </figure>
  );
}

/** At most about MOST points, with the first and the last. */
function thinned(points: Point[]): Point[] {
  const stride = Math.ceil(points.length / MOST);
  return points.filter((_, index) => index % stride === 0 || index === points.length - 1);
}
