import { effect, untracked } from "@preact/signals";
import { render } from "preact";
import { token } from "./api";
import { isLoaded, models, startReading } from "./state/jobs";
import { route, startRouting } from "./state/route";
import { startEstimating } from "./state/submit";
import { watch } from "./state/watched";
import { Page } from "./views/Page";
import "./style.css";

startRouting();
startReading();
startEstimating();
effect(() => {
  const { job = "" } = route.value;
  // A new token may be allowed to see the job.
  void token.value;
  untracked(() => void watch(job));
});

// Tests and benchmarks read when the page can be used.
const stop = effect(() => {
  if (!isLoaded.value || models.value.length === 0) return;
  requestAnimationFrame(() => performance.mark("usable"));
  queueMicrotask(() => stop());
});

const root = document.getElementById("page");
if (root) render(<Page />, root);
