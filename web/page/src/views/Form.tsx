import type { ComponentChildren } from "preact";
import { GROUPS, labelOf, optionOf } from "../lib/fields";
import {
  addStyle,
  applies,
  content,
  hasContent,
  hasStyles,
  type Kind,
  kind,
  MAX_STYLES,
  pictures,
  setPicture,
  setValue,
  strength,
  styles,
  values,
} from "../state/form";
import { submit } from "../state/submit";
import { Field, problemOf } from "./Field";
import { Layers } from "./Layers";
import { PaintBar } from "./PaintBar";
import { PictureField } from "./PictureField";
import { Several } from "./Several";
import { StyleCard } from "./StyleCard";

/** The options that matter first; all others are folded away. */
const FIRST = ["options.size", "options.iterations", "options.model"];

const KINDS: [Kind, string, string][] = [
  ["transfer", "Transfer", "Paints the content of one picture in the style of others."],
  ["style", "Texture", "Paints a texture in the style of one or more pictures."],
  ["content", "Content", "Paints what the layers of the network keep of a picture."],
];

/** The form: pictures, options, estimate and the button that paints. */
export function Form() {
  const paint = (event: Event) => {
    event.preventDefault();
    void submit();
  };
  return (
    <form class="form" onSubmit={paint} aria-label="New picture">
      <KindChoice />
      <ChosenPictures />
      <div class="first">
        {FIRST.map((path) => (
          <Option key={path} path={path} />
        ))}
      </div>
      {kind.value === "transfer" && <Strength />}
      <details class="more">
        <summary>All options</summary>
        {kind.value === "transfer" && (
          <Group heading="Weights">
            <Option path="content_weight" />
            <Option path="style_weight" />
          </Group>
        )}
        <Layers />
        {[...GROUPS].map(([heading, options]) => (
          <Group key={heading} heading={heading}>
            {options
              .filter(({ path }) => !FIRST.includes(path))
              .map(({ path }) => (
                <Option key={path} path={path} />
              ))}
          </Group>
        ))}
      </details>
      <Several />
      <PaintBar />
    </form>
  );
}

function KindChoice() {
  return (
    <fieldset class="kinds">
      <legend class="hidden">What to paint</legend>
      <div class="segments">
        {KINDS.map(([name, label]) => (
          <label key={name}>
            <input
              type="radio"
              name="kind"
              value={name}
              checked={kind.value === name}
              onChange={() => (kind.value = name)}
            />
            <span>{label}</span>
          </label>
        ))}
      </div>
      <p class="hint">{KINDS.find(([name]) => name === kind.value)?.[2]}</p>
    </fieldset>
  );
}

function ChosenPictures() {
  return (
    <div class={hasContent.value && hasStyles.value ? "pictures both" : "pictures"}>
      {hasContent.value && (
        <PictureField
          label={hasStyles.value ? "Content" : "Picture"}
          hint="Drop, paste or choose"
          path="content"
          picture={content.value}
          onChange={([picture]) => (content.value = picture ?? null)}
          onRemove={() => (content.value = null)}
        />
      )}
      {hasStyles.value &&
        styles.value.map((item, index) => <StyleCard key={item.picture.key} item={item} index={index} />)}
      {hasStyles.value && styles.value.length < MAX_STYLES && (
        <PictureField
          label={styles.value.length ? "Another style" : "Style"}
          hint={styles.value.length ? "Styles are mixed by weight" : "Drop, paste or choose"}
          path="styles"
          picture={null}
          isMultiple
          isSmall={styles.value.length > 0}
          onChange={(added) => added.forEach(addStyle)}
        />
      )}
    </div>
  );
}

function Strength() {
  const isSet = Boolean(values.value.content_weight?.trim());
  const factor = 10 ** strength.value;
  const text = strength.value === 0 ? "balanced" : `${Number(factor.toPrecision(2))} times the default`;
  return (
    <div class="field strength">
      <div class="label">
        <label for="strength">Strength of the style</label>
        <output for="strength">{isSet ? "given by the content weight" : text}</output>
      </div>
      <input
        id="strength"
        type="range"
        min={-2}
        max={2}
        step={0.1}
        value={strength.value}
        disabled={isSet}
        aria-valuetext={text}
        onInput={(event) => (strength.value = Number(event.currentTarget.value))}
      />
      <p class="ends" aria-hidden="true">
        <span>more content</span>
        <span>more style</span>
      </p>
    </div>
  );
}

function Group({ heading, children }: { heading: string; children: ComponentChildren }) {
  return (
    <fieldset class="group">
      <legend>{heading}</legend>
      {children}
    </fieldset>
  );
}

/** An option of the job. */
function Option({ path }: { path: string }) {
  const option = optionOf(path);
  if (!applies(path, kind.value)) return null;
  if (option.type !== "image") {
    return <Field option={option} value={values.value[path] ?? ""} onChange={(text) => setValue(path, text)} />;
  }
  const label = labelOf(option);
  return (
    <div class="field">
      <p class="label">{label}</p>
      <PictureField
        label={label}
        hint="Drop or choose"
        path={path}
        picture={pictures.value[path] ?? null}
        isSmall
        onChange={([picture]) => setPicture(pictures, path, picture ?? null)}
        onRemove={() => setPicture(pictures, path, null)}
      />
      {problemOf(path) ? null : <p class="hint">{option.help.replaceAll("`", "")}</p>}
    </div>
  );
}
