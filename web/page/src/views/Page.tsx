import { useEffect, useRef } from "preact/hooks";
import { online, tokenProblem } from "../api";
import { addPicture } from "../state/form";
import { Picture } from "../state/pictures";
import { route } from "../state/route";
import { Form } from "./Form";
import { Grid } from "./Grid";
import { Jobs } from "./Jobs";
import { Stage } from "./Stage";
import { Token } from "./Token";

/** The whole page. */
export function Page() {
  usePaste();
  const stage = useStageHeight();
  const { grid } = route.value;
  return (
    <>
      <button type="button" class="skip" onClick={focusStage}>
        Go to the picture
      </button>
      <header class="top">
        <a class="brand" href="#new">
          <Mark />
          <h1>Gramophone</h1>
        </a>
        <Connection />
      </header>
      {tokenProblem.value && <Token />}
      <main class="columns">
        <Form />
        <section id="stage" ref={stage} class="stage" tabIndex={-1} aria-label="Picture">
          {grid ? <Grid id={grid} key={grid} /> : <Stage />}
        </section>
      </main>
      <Jobs />
    </>
  );
}

/** Tells the style sheet the height of the stage, so that its end is visible beside a longer form. */
function useStageHeight() {
  const stage = useRef<HTMLElement>(null);
  useEffect(() => {
    const { current } = stage;
    if (!current) return undefined;
    const observer = new ResizeObserver(() => current.style.setProperty("--height", `${current.offsetHeight}px`));
    observer.observe(current);
    return () => observer.disconnect();
  }, []);
  return stage;
}

function focusStage(): void {
  document.getElementById("stage")?.focus();
}

function Connection() {
  return (
    <p class={online.value ? "connection" : "connection lost"} role="status">
      {online.value ? "" : "Connection lost. Trying again…"}
    </p>
  );
}

/** A pasted picture goes where one is missing. */
function usePaste(): void {
  useEffect(() => {
    const paste = (event: ClipboardEvent) => {
      for (const file of event.clipboardData?.files ?? []) {
        if (file.type.startsWith("image/")) addPicture(Picture.fromFile(file, file.name || "pasted picture"));
      }
    };
    addEventListener("paste", paste);
    return () => removeEventListener("paste", paste);
  }, []);
}

function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
      <circle cx="16" cy="16" r="15" />
      <circle class="groove" cx="16" cy="16" r="11.5" />
      <circle class="groove" cx="16" cy="16" r="8.5" />
      <circle class="label" cx="16" cy="16" r="5" />
      <circle cx="16" cy="16" r="1.5" />
    </svg>
  );
}
