// From the texts of the form's fields to values of a request.

import { type FieldViolation, SynthesisOptionsSchema } from "@gramophone/client";
import { OPTIONS, type Option } from "../contract";
import { words } from "./format";

/** The page sets these fields itself. */
const OWN = [
  "submission.on_disconnect",
  "submission.request_id",
  "options.preview.every",
  "options.preview.size",
  "options.preview.format",
];

const BY_PATH = new Map(OPTIONS.map((option) => [option.path, option]));

/** The options of jobs by the headings of their groups. */
export const GROUPS: ReadonlyMap<string, readonly Option[]> = grouped();

/** Returns the option with a path. */
export function optionOf(path: string): Option {
  const option = BY_PATH.get(path);
  if (!option) throw new Error(`the contract has no field ${path}`);
  return option;
}

/** The label of an option. */
export function labelOf(option: Option): string {
  return words(
    option.path
      .split(".")
      .slice(option.path.includes(".") ? 1 : 0)
      .join(" "),
  );
}

/** Plain data of a request, by names in camelCase. */
export type Data = { [name: string]: unknown };

/** Sets the field with a path such as "options.preview.every". */
export function set(data: Data, path: string, value: unknown): void {
  const names = path
    .split(".")
    .map((name) => name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase()));
  let at = data;
  for (const name of names.slice(0, -1)) {
    at[name] ??= {};
    at = at[name] as Data;
  }
  at[names.at(-1) as string] = value;
}

/**
 * Reads the text of a field.
 *
 * @returns the value of the request's field, or a violation; undefined for an empty text.
 */
export function read(
  option: Option,
  text: string,
  path = option.path,
): { value?: unknown; violation?: FieldViolation } {
  const trimmed = text.trim();
  if (!trimmed) return {};
  const wrong = (description: string) => ({ violation: { field: path, description } });
  switch (option.type) {
    case "integer":
    case "number":
    case "duration": {
      const value = Number(trimmed);
      if (!Number.isFinite(value)) return wrong("must be a number");
      if (option.type === "integer" && !Number.isInteger(value)) return wrong("must be a whole number");
      if (!isAllowed(option, value)) return wrong(`must be ${option.range}`);
      return { value: option.type === "duration" ? asDuration(value) : value };
    }
    case "boolean":
      return { value: trimmed === "true" };
    case "choice": {
      const choice = option.choices.find(({ word }) => word === trimmed);
      return choice ? { value: choice.number } : wrong(`must be ${option.choices.map(({ word }) => word).join(", ")}`);
    }
    case "weights":
      return readWeights(option, trimmed, wrong);
    default:
      return { value: trimmed };
  }
}

/** Reads "gram=1, spectrum=0.5". */
function readWeights(option: Option, text: string, wrong: (description: string) => { violation: FieldViolation }) {
  const value: Data[] = [];
  for (const part of text.split(",")) {
    const [word = "", weight] = part.split("=").map((piece) => piece.trim());
    const choice = option.choices.find((one) => one.word === word);
    if (!choice) return wrong(`must name ${option.choices.map((one) => one.word).join(", ")}`);
    if (weight !== undefined && !(Number(weight) > 0)) return wrong(`must give ${word} a weight above 0`);
    value.push({ [choiceField(option)]: choice.number, weight: weight === undefined ? undefined : Number(weight) });
  }
  return { value };
}

/** The name of the field with the choice, beside its weight. */
function choiceField(option: Option): string {
  const field = SynthesisOptionsSchema.fields.find(({ name }) => name === option.path.slice(8));
  return field?.message?.fields.find((inner) => inner.fieldKind === "enum")?.localName ?? "";
}

function isAllowed({ minimum, maximum, values, range }: Option, value: number): boolean {
  if (values.length > 0) return values.includes(value);
  if (value === 0 && range.startsWith("0, or")) return true;
  if (minimum !== null && (value < minimum || (value === minimum && range.startsWith("greater than")))) return false;
  return maximum === null || value <= maximum;
}

function asDuration(value: number) {
  const whole = Math.floor(value);
  return { seconds: BigInt(whole), nanos: Math.round((value - whole) * 1e9) };
}

function grouped(): Map<string, Option[]> {
  const groups = new Map<string, Option[]>();
  for (const option of OPTIONS) {
    if (option.group && !OWN.includes(option.path))
      groups.set(option.group, [...(groups.get(option.group) ?? []), option]);
  }
  return groups;
}
