import type { Signal } from "@preact/signals";
import { contentLayers, hasContent, hasStyles, styleLayers, type Values, values } from "../state/form";
import { modelOf } from "../state/jobs";
import { problemOf } from "./Field";

/** The layers that the losses compare, with weights. */
export function Layers() {
  const model = modelOf(values.value["options.model"] ?? "");
  if (!model) return null;
  const names = model.layers.map(({ name }) => name);
  return (
    <fieldset class="group">
      <legend>Layers</legend>
      {hasStyles.value && (
        <Choice label="Style" path="style_layers" names={names} defaults={model.styleLayers} chosen={styleLayers} />
      )}
      {hasContent.value && (
        <Choice
          label="Content"
          path="content_layers"
          names={names}
          defaults={model.contentLayers}
          chosen={contentLayers}
        />
      )}
    </fieldset>
  );
}

interface ChoiceProps {
  label: string;
  path: string;
  names: string[];
  defaults: string[];
  chosen: Signal<Values>;
}

function Choice({ label, path, names, defaults, chosen }: ChoiceProps) {
  const isDefault = Object.keys(chosen.value).length === 0;
  const problem = problemOf(path);
  const toggle = (name: string) => {
    const current: Values = isDefault ? Object.fromEntries(defaults.map((layer) => [layer, ""])) : chosen.value;
    const { [name]: known, ...others } = current;
    chosen.value = known === undefined ? { ...current, [name]: "" } : others;
  };
  return (
    <fieldset class="layers" aria-label={`${label} layers`}>
      <p class="label">
        {label} <span class="hint">{isDefault ? "The model's own." : ""}</span>
        {!isDefault && (
          <button type="button" class="link" onClick={() => (chosen.value = {})}>
            Use the model's own
          </button>
        )}
      </p>
      <div class="chips">
        {names.map((name) => {
          const isOn = isDefault ? defaults.includes(name) : name in chosen.value;
          return (
            <button key={name} type="button" class="chip" aria-pressed={isOn} onClick={() => toggle(name)}>
              {name}
            </button>
          );
        })}
      </div>
      {!isDefault && (
        <div class="weights">
          {Object.entries(chosen.value).map(([name, weight]) => (
            <label key={name}>
              <span>Weight of {name}</span>
              <input
                type="text"
                inputMode="decimal"
                placeholder="default"
                value={weight}
                onInput={(event) => (chosen.value = { ...chosen.value, [name]: event.currentTarget.value })}
              />
            </label>
          ))}
        </div>
      )}
      {problem && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
    </fieldset>
  );
}
