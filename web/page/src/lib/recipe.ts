// From the recipe of a result to the settings that paint it again.

import { OPTIONS } from "../contract";
import type { Kind, Settings, StoredPicture, Values } from "../state/form";

interface Hashed {
  sha256: string;
}

interface Mask extends Hashed {
  /** For a region of a map, its color. */
  color?: string;
}

interface Style extends Hashed {
  width: number;
  height: number;
  share: number;
  mask: Mask | null;
  source_mask: Mask | null;
}

interface Layer {
  layer: string;
  weight: number;
  loss?: string;
}

/** The parts of a recipe that have another form than the options. */
export interface Recipe {
  [name: string]: unknown;
  kind: Kind;
  size: number;
  model: { name: string };
  content: Hashed | null;
  init_image: Hashed | null;
  styles: Style[];
  style_layers: Layer[];
  content_layers: Layer[];
  style_losses?: { loss: string; weight: number }[];
  warnings?: string[];
}

/** Layers that jobs use if their request names none. */
export interface Defaults {
  styleLayers: readonly string[];
  contentLayers: readonly string[];
}

/** Returns the settings of the job with a recipe. */
export function settingsOf(recipe: Recipe, model: Defaults): Settings {
  const losses = recipe.style_losses ?? [];
  const weightOf = new Map(losses.map(({ loss, weight }) => [loss, weight]));
  const map = recipe.styles.find(({ mask }) => mask?.color)?.mask;
  const pictures: Record<string, StoredPicture> = {};
  if (recipe.init_image) pictures["options.init_image"] = named(recipe.init_image, "initial picture");
  if (map) pictures["options.canvas_map"] = named(map, "map");
  // The recipe has products of the weights of layers and losses.
  const styleLayers = recipe.style_layers
    .filter(({ layer }) => layer)
    .map(({ layer, loss, weight }) => [layer, weight / (weightOf.get(loss ?? "") ?? 1)] as const);
  const contentLayers = recipe.content_layers.map(({ layer, weight }) => [layer, weight] as const);
  return {
    kind: recipe.kind,
    content: recipe.kind !== "style" && recipe.content ? named(recipe.content, "content") : undefined,
    styles: stylesOf(recipe),
    values: valuesOf(recipe),
    pictures,
    styleLayers: layersOf(styleLayers, model.styleLayers, (count) => 1 / count),
    contentLayers: layersOf(contentLayers, model.contentLayers, () => 1),
    strength: 0,
  };
}

/** The texts of the options that differ from their defaults. */
function valuesOf(recipe: Recipe): Values {
  const values: Record<string, string> = { "options.model": recipe.model.name };
  for (const { path, type, default: known } of OPTIONS) {
    if (type === "image" || type === "weights" || path.startsWith("styles.") || path === "options.model") continue;
    if (!path.includes(".") && recipe.kind !== "transfer") continue;
    const found = at(recipe, path.replace(/^options\./, ""));
    if (found === undefined || found === null || typeof found === "object") continue;
    if (String(found) !== known) values[path] = String(found);
  }
  if (recipe.style_losses?.length) {
    delete values["options.style_loss"];
    values["options.style_losses"] = recipe.style_losses.map(({ loss, weight }) => `${loss}=${weight}`).join(", ");
  }
  return values;
}

/** The styles; those of the regions of one map are one style. */
function stylesOf(recipe: Recipe): Settings["styles"] {
  const found = new Map<string, Settings["styles"][number]>();
  for (const [index, style] of recipe.styles.entries()) {
    const { mask, source_mask: source } = style;
    const scale = Math.max(style.width, style.height) / recipe.size;
    const scaled: Record<string, string> =
      scale === 1 ? {} : { scale: String(Math.min(8, Math.max(0.1, Number(scale.toPrecision(6))))) };
    if (mask?.color) {
      const pictures: Record<string, StoredPicture> = source ? { source_map: named(source, "map") } : {};
      found.set(`${style.sha256} ${source?.sha256}`, { picture: named(style, "style"), values: scaled, pictures });
      continue;
    }
    const pictures: Record<string, StoredPicture> = {};
    if (mask) pictures.mask = named(mask, "mask");
    if (source) pictures.source_mask = named(source, "mask");
    found.set(String(index), {
      picture: named(style, "style"),
      values: { weight: String(style.share), ...scaled },
      pictures,
    });
  }
  return [...found.values()];
}

/** The chosen layers with the texts of their weights; none if they are the model's own. */
function layersOf(
  layers: readonly (readonly [string, number])[],
  own: readonly string[],
  usual: (count: number) => number,
): Values {
  const isUsual = layers.every(([, weight]) => Math.abs(weight - usual(layers.length)) < 1e-9);
  if (isUsual && layers.map(([name]) => name).join() === own.join()) return {};
  return Object.fromEntries(layers.map(([name, weight]) => [name, isUsual ? "" : String(weight)]));
}

function named({ sha256 }: Hashed, name: string): StoredPicture {
  return { sha256, name };
}

function at(data: Record<string, unknown>, path: string): unknown {
  return path.split(".").reduce<unknown>((found, name) => (found as Record<string, unknown> | undefined)?.[name], data);
}
