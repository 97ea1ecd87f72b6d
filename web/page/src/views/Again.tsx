import { again, type Change } from "../state/again";
import { pictures, setPicture, setValue, type Values } from "../state/form";
import { Picture } from "../state/pictures";
import { withSeed } from "../state/seeds";
import { file } from "../state/watched";

const CHANGES: [string, Change][] = [
  ["another seed", (values, kind) => withSeed(values, kind, String(number(values, "options.seed", 0) + 1))],
  ["twice the size", (values) => ({ ...values, "options.size": String(2 * number(values, "options.size", 512)) })],
  [
    "twice the iterations",
    (values) => ({ ...values, "options.iterations": String(2 * number(values, "options.iterations", 300)) }),
  ],
];

/** Buttons that fill the form with the settings of a job, with a change. */
export function Again({ id }: { id: string }) {
  const fill = async (change?: Change) => {
    if (await again(id, change)) focusPaint();
  };
  const goOn = async () => {
    if (!file.value || !(await again(id))) return;
    setValue("options.init", "");
    setPicture(pictures, "options.init_image", Picture.fromFile(file.value, "result"));
    focusPaint();
  };
  return (
    <fieldset class="again" aria-label="Again with">
      <span class="hint">Again with…</span>
      {CHANGES.map(([label, change]) => (
        <button key={label} type="button" class="button" onClick={() => void fill(change)}>
          {label}
        </button>
      ))}
      <button type="button" class="button" onClick={() => void goOn()}>
        this as the start
      </button>
      <button type="button" class="button" onClick={() => void fill()}>
        other settings
      </button>
    </fieldset>
  );
}

function number(values: Values, path: string, unset: number): number {
  return Number(values[path]?.trim() || unset);
}

/** The form has the settings now: the next key press paints. */
function focusPaint(): void {
  const button = document.querySelector<HTMLButtonElement>(".paintbar .primary");
  button?.focus({ preventScroll: true });
  button?.scrollIntoView({ block: "center" });
}
