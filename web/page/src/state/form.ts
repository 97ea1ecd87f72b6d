// The form: what to paint, and how.

import type { FieldViolation, JobRequest } from "@gramophone/client";
import { computed, type Signal, signal } from "@preact/signals";
import { type Data, optionOf, read, set } from "../lib/fields";
import { Picture } from "./pictures";

export type Kind = "transfer" | "style" | "content";

export type Values = Readonly<Record<string, string>>;
export type Pictures = Readonly<Record<string, Picture>>;

/** One picture to take style from. */
export interface StyleItem {
  readonly picture: Picture;
  /** Texts of its fields by their names in StyleSource. */
  readonly values: Signal<Values>;
  /** Its masks by their names in StyleSource. */
  readonly pictures: Signal<Pictures>;
}

export const kind = signal<Kind>("transfer");
export const content = signal<Picture | null>(null);
export const styles = signal<readonly StyleItem[]>([]);
/** Texts of the fields by their paths; a missing or empty text is the default. */
export const values = signal<Values>({});
/** Pictures among the options by their paths. */
export const pictures = signal<Pictures>({});
/** Weights of chosen layers; none chosen are the model's own. */
export const styleLayers = signal<Values>({});
export const contentLayers = signal<Values>({});
/** Decimal logarithm of the style's strength relative to the default. */
export const strength = signal(0);
/** What the server says is wrong with the fields, by the latest check. */
export const violations = signal<readonly FieldViolation[]>([]);

export const MAX_STYLES = 16;

/** The kinds of jobs have a content picture, styles, or both. */
export const hasContent = computed(() => kind.value !== "style");
export const hasStyles = computed(() => kind.value !== "content");

export function setValue(path: string, text: string): void {
  values.value = { ...values.value, [path]: text };
}

export function setPicture(at: Signal<Pictures>, name: string, picture: Picture | null): void {
  const { [name]: _, ...rest } = at.value;
  at.value = picture ? { ...rest, [name]: picture } : rest;
}

export function styleItem(picture: Picture, texts: Values = {}, masks: Pictures = {}): StyleItem {
  return { picture, values: signal(texts), pictures: signal(masks) };
}

export function addStyle(picture: Picture): void {
  if (styles.value.length < MAX_STYLES) styles.value = [...styles.value, styleItem(picture)];
}

/** Puts a picture where one is missing: first the content, then the styles. */
export function addPicture(picture: Picture): void {
  if (hasContent.value && !content.value) content.value = picture;
  else if (hasStyles.value) addStyle(picture);
  else content.value = picture;
}

/** Whether the user has given nothing yet. */
export function isEmpty(): boolean {
  return !content.value && styles.value.length === 0;
}

/** Everything of the form that a request needs, as texts; it can be stored. */
export interface Settings {
  kind: Kind;
  content?: StoredPicture | undefined;
  styles: { picture: StoredPicture; values: Values; pictures: Record<string, StoredPicture> }[];
  values: Values;
  pictures: Record<string, StoredPicture>;
  styleLayers: Values;
  contentLayers: Values;
  strength: number;
}

export interface StoredPicture {
  sha256: string;
  name: string;
  /** A small copy as a data URL. */
  thumbnail?: string;
}

/** Returns the settings of the form. */
export function settings(): Settings {
  return {
    kind: kind.value,
    content: hasContent.value && content.value ? stored(content.value) : undefined,
    styles: hasStyles.value
      ? styles.value.map((item) => ({
          picture: stored(item.picture),
          values: item.values.value,
          pictures: allStored(item.pictures.value),
        }))
      : [],
    values: filled(values.value),
    pictures: allStored(pictures.value),
    styleLayers: styleLayers.value,
    contentLayers: contentLayers.value,
    strength: strength.value,
  };
}

/** Fills the form with the settings of a job. */
export function load(from: Settings, jobId: string): void {
  const loaded = ({ sha256, name, thumbnail }: StoredPicture) => Picture.ofJob(jobId, sha256, name, thumbnail);
  const allLoaded = (some: Record<string, StoredPicture>) =>
    Object.fromEntries(Object.entries(some).map(([name, picture]) => [name, loaded(picture)]));
  kind.value = from.kind;
  content.value = from.content ? loaded(from.content) : null;
  styles.value = from.styles.map((item) => styleItem(loaded(item.picture), item.values, allLoaded(item.pictures)));
  values.value = from.values;
  pictures.value = allLoaded(from.pictures);
  styleLayers.value = from.styleLayers;
  contentLayers.value = from.contentLayers;
  strength.value = from.strength;
  violations.value = [];
}

/** Whether a picture is still being uploaded. */
export const isUploading = computed(() => allPictures().some(({ sha256, problem }) => !sha256.value && !problem.value));

/** What is missing before the request can be sent, as a sentence; empty if nothing is. */
export const missing = computed(() => {
  if (hasContent.value && !content.value) return hasStyles.value ? "Choose a content picture." : "Choose a picture.";
  if (hasStyles.value && styles.value.length === 0) return "Choose a style picture.";
  if (isUploading.value) return "The pictures are being uploaded.";
  return allPictures().some(({ problem }) => problem.value) ? "A picture is missing on the server." : "";
});

/** The form as a request, and the fields that cannot be read. */
export const reading = computed(() => requestOf(settings()));

/** Converts settings to a request. */
export function requestOf(from: Settings): { request: JobRequest; problems: FieldViolation[] } {
  const data: Data = {};
  const problems: FieldViolation[] = [];
  const take = (into: Data, path: string, text: string, shown = path, name = path) => {
    const { value, violation } = read(optionOf(path), text, shown);
    if (violation) problems.push(violation);
    else if (value !== undefined) set(into, name, value);
  };
  for (const [path, text] of Object.entries(from.values)) if (applies(path, from.kind)) take(data, path, text);
  for (const [path, picture] of Object.entries(from.pictures)) set(data, path, image(picture));
  if (from.content) data.content = image(from.content);
  if (from.kind !== "content") {
    data.styles = from.styles.map((item, index) => {
      const style: Data = { image: image(item.picture) };
      for (const [name, text] of Object.entries(item.values))
        take(style, `styles.${name}`, text, `styles[${index}].${name}`, name);
      for (const [name, picture] of Object.entries(item.pictures)) set(style, name, image(picture));
      return style;
    });
    data.styleLayers = layers(from.styleLayers, "style_layers", problems);
  }
  if (from.kind !== "style") data.contentLayers = layers(from.contentLayers, "content_layers", problems);
  if (from.kind === "transfer" && from.strength !== 0)
    data.contentWeight ??= Number((10 ** -from.strength).toPrecision(4));
  set(data, "options.preview.size", 512);
  return { request: { case: from.kind, value: data } as JobRequest, problems };
}

/** Whether requests of a kind have the field. */
export function applies(path: string, of: Kind): boolean {
  return path.includes(".") || of === "transfer";
}

function layers(chosen: Values, path: string, problems: FieldViolation[]): Data[] {
  return Object.entries(chosen).map(([layer, text]) => {
    const weight = text.trim() ? Number(text) : undefined;
    if (weight !== undefined && !(weight >= 0))
      problems.push({ field: path, description: `must give ${layer} a number as its weight` });
    return { layer, weight };
  });
}

function image({ sha256 }: StoredPicture) {
  return { source: { case: "sha256", value: sha256 } };
}

function stored(picture: Picture): StoredPicture {
  return { sha256: picture.sha256.value, name: picture.name, thumbnail: picture.thumbnail };
}

function allStored(from: Pictures): Record<string, StoredPicture> {
  return Object.fromEntries(Object.entries(from).map(([name, picture]) => [name, stored(picture)]));
}

function filled(texts: Values): Values {
  return Object.fromEntries(Object.entries(texts).filter(([, text]) => text.trim()));
}

/** All pictures of the form. */
export function allPictures(): Picture[] {
  const own = hasStyles.value
    ? styles.value.flatMap((item) => [item.picture, ...Object.values(item.pictures.value)])
    : [];
  return [...(hasContent.value && content.value ? [content.value] : []), ...own, ...Object.values(pictures.value)];
}
