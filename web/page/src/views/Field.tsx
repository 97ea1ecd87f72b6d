import { useId, useState } from "preact/hooks";
import { sentence } from "../api";
import type { Option } from "../contract";
import { labelOf } from "../lib/fields";
import { words } from "../lib/format";
import { violations } from "../state/form";
import { models } from "../state/jobs";

/** The violations of a field and, unless `isAlone`, of its parts, as one text. */
export function problemOf(path: string, isAlone = false): string {
  const own = violations.value.filter(
    ({ field }) => field === path || (!isAlone && (field.startsWith(`${path}.`) || field.startsWith(`${path}[`))),
  );
  return own
    .map(({ description }) => sentence(`${/^have\b/.test(description) ? "they" : "it"} ${description}`))
    .join(" ");
}

interface FieldProps {
  option: Option;
  /** The path that errors name, if it differs from the option's. */
  path?: string;
  label?: string;
  value: string;
  onChange: (text: string) => void;
}

/** A field of the contract: its control, its range and default, its meaning, and what is wrong with it. */
export function Field({ option, path = option.path, label = labelOf(option), value, onChange }: FieldProps) {
  const id = useId();
  const [isOpen, setOpen] = useState(false);
  const problem = problemOf(path);
  const described = [`${id}-hint`, problem && `${id}-problem`].filter(Boolean).join(" ");
  return (
    <div class="field">
      <div class="label">
        <label for={id}>{label}</label>
        <button
          type="button"
          class="what"
          aria-expanded={isOpen}
          aria-controls={`${id}-help`}
          aria-label={`About ${label}`}
          onClick={() => setOpen(!isOpen)}
        >
          ?
        </button>
      </div>
      <Control
        id={id}
        option={option}
        value={value}
        onChange={onChange}
        described={described}
        isWrong={Boolean(problem)}
      />
      <p class="hint" id={`${id}-hint`}>
        {hintOf(option)}
      </p>
      <div class="help" id={`${id}-help`} hidden={!isOpen}>
        <Help option={option} />
      </div>
      {problem && (
        <p class="problem" id={`${id}-problem`} role="alert">
          {problem}
        </p>
      )}
    </div>
  );
}

interface ControlProps {
  id: string;
  option: Option;
  value: string;
  onChange: (text: string) => void;
  described: string;
  isWrong: boolean;
}

function Control({ id, option, value, onChange, described, isWrong }: ControlProps) {
  const shared = { id, value, "aria-describedby": described, "aria-invalid": isWrong || undefined };
  const choices = choicesOf(option);
  if (choices) {
    return (
      <select {...shared} onChange={(event) => onChange(event.currentTarget.value)}>
        <option value="">Default</option>
        {choices.map(([word, text]) => (
          <option key={word} value={word} selected={word === value}>
            {text}
          </option>
        ))}
      </select>
    );
  }
  const mode =
    option.type === "integer" ? "numeric" : option.type === "number" || option.type === "duration" ? "decimal" : "text";
  return (
    <input
      {...shared}
      type="text"
      inputMode={mode}
      autocomplete="off"
      spellcheck={false}
      placeholder={/^[\w.]+$/.test(option.default) ? option.default : "default"}
      onInput={(event) => onChange(event.currentTarget.value)}
    />
  );
}

/** The words of a select element, with their labels; undefined for fields with a text. */
function choicesOf(option: Option): [string, string][] | undefined {
  if (option.type === "boolean")
    return [
      ["true", "Yes"],
      ["false", "No"],
    ];
  if (option.type === "choice") return option.choices.map(({ word }) => [word, words(word)]);
  if (option.values.length > 0) return option.values.map((value) => [String(value), String(value)]);
  if (option.path === "options.model") return models.value.map(({ name }) => [name, name]);
  return undefined;
}

function hintOf(option: Option): string {
  const known = option.default && `default: ${option.default.replaceAll("_", " ")}`;
  const parts = [
    option.range,
    option.type === "weights" ? "words with weights, such as gram=1, spectrum=0.5" : "",
    known,
  ];
  return sentence(parts.filter(Boolean).join("; "));
}

function Help({ option }: { option: Option }) {
  return (
    <>
      <p>{plain(option.help)}</p>
      {option.choices.length > 0 && (
        <dl>
          {option.choices.map(({ word, help }) => (
            <div key={word}>
              <dt>{words(word)}</dt>
              <dd>{plain(help)}</dd>
            </div>
          ))}
        </dl>
      )}
    </>
  );
}

/** Comments of the contract have words in backticks. */
function plain(text: string): string {
  return text.replaceAll("`", "");
}
