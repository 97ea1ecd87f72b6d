// "Again with …": the settings of a job in the form, with a change.

import { client, explain, tracked } from "../api";
import { type Recipe, settingsOf as settingsOfRecipe } from "../lib/recipe";
import { type Kind, load, type Settings, type Values } from "./form";
import { modelOf } from "./jobs";
import { settingsOf } from "./stored";
import { problem } from "./submit";

/** Returns the values of a form with a change; the kind is that of its job. */
export type Change = (values: Values, kind: Kind) => Values;

/** Fills the form with the settings of a job and changes some of its fields. */
export async function again(id: string, change: Change = (values) => values): Promise<boolean> {
  const settings = settingsOf(id) ?? (await fromRecipe(id));
  if (!settings) return false;
  load({ ...settings, values: change(settings.values, settings.kind) }, id);
  return true;
}

/** Reads the settings of a job that this browser has not submitted from the recipe of its result. */
async function fromRecipe(id: string): Promise<Settings | undefined> {
  try {
    const { result } = await tracked(() => client.job(id).info());
    if (!result) throw new Error("the settings of this job are not known: it has no result");
    const recipe = JSON.parse(result.recipeJson) as Recipe;
    return settingsOfRecipe(recipe, modelOf(recipe.model.name) ?? { styleLayers: [], contentLayers: [] });
  } catch (error) {
    problem.value = explain(error);
    return undefined;
  }
}
