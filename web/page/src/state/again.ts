// "Again with …": the settings of a job in the form, with a change.

import { type JobInfo, JobKind } from "@gramophone/client";
import { client, explain, tracked } from "../api";
import { OPTIONS } from "../contract";
import { type Kind, load, type Settings, type StoredPicture, type Values } from "./form";
import { settingsOf } from "./stored";
import { problem } from "./submit";

const KINDS: Partial<Record<JobKind, Kind>> = {
  [JobKind.STYLE]: "style",
  [JobKind.CONTENT]: "content",
  [JobKind.TRANSFER]: "transfer",
};

/** Returns the settings of a job: as this browser has kept them, else from its recipe. */
export async function settingsFor(id: string): Promise<Settings | undefined> {
  const kept = settingsOf(id);
  if (kept) return kept;
  try {
    return fromRecipe(await tracked(() => client.job(id).info()));
  } catch (error) {
    problem.value = explain(error);
    return undefined;
  }
}

/** Fills the form with the settings of a job and changes some of its fields. */
export async function again(id: string, change: (values: Values) => Values = (values) => values): Promise<boolean> {
  const settings = await settingsFor(id);
  if (!settings) return false;
  load({ ...settings, values: change(settings.values) });
  return true;
}

interface RecipePicture {
  sha256: string;
}

interface RecipeStyle extends RecipePicture {
  share: number;
  mask: RecipePicture | null;
  source_mask: RecipePicture | null;
}

/** Reads the settings from the recipe of a result. */
export function fromRecipe(job: JobInfo): Settings | undefined {
  const text = job.result?.recipeJson;
  const kind = KINDS[job.kind];
  if (!text || !kind) {
    problem.value = "The settings of this job are not known: it has no result, and it was submitted elsewhere.";
    return undefined;
  }
  const recipe = JSON.parse(text) as Record<string, unknown>;
  const name =
    (what: string) =>
    (picture: RecipePicture): StoredPicture => ({ sha256: picture.sha256, name: what });
  const content = recipe.content as RecipePicture | null;
  const start = recipe.init_image as RecipePicture | null;
  return {
    kind,
    content: content ? name("content")(content) : undefined,
    styles: ((recipe.styles as RecipeStyle[] | undefined) ?? []).map((style) => ({
      picture: name("style")(style),
      values: { weight: String(style.share) },
      pictures: {
        ...(style.mask ? { mask: name("mask")(style.mask) } : {}),
        ...(style.source_mask ? { source_mask: name("mask")(style.source_mask) } : {}),
      },
    })),
    values: valuesOf(recipe, kind),
    pictures: start ? { "options.init_image": name("initial picture")(start) } : {},
    styleLayers: {},
    contentLayers: {},
    strength: 0,
  };
}

/** The texts of the options that differ from their defaults. */
function valuesOf(recipe: Record<string, unknown>, kind: Kind): Values {
  const values: Record<string, string> = {};
  for (const { path, type, default: known } of OPTIONS) {
    if (type === "image" || type === "weights" || path.startsWith("styles.")) continue;
    if (!path.includes(".") && kind !== "transfer") continue;
    const found = at(recipe, path.replace(/^options\./, ""));
    const text = typeof found === "object" ? undefined : found;
    if (text !== undefined && text !== null && String(text) !== known) values[path] = String(text);
  }
  const model = recipe.model as { name: string } | undefined;
  return model ? { ...values, "options.model": model.name } : values;
}

function at(data: Record<string, unknown>, path: string): unknown {
  return path.split(".").reduce<unknown>((found, name) => (found as Record<string, unknown> | undefined)?.[name], data);
}
