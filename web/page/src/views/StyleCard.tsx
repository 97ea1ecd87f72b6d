import { useState } from "preact/hooks";
import { optionOf } from "../lib/fields";
import { pictures, type StyleItem, setPicture, styles } from "../state/form";
import type { Picture } from "../state/pictures";
import { Field } from "./Field";
import { MaskEditor } from "./MaskEditor";
import { PictureField } from "./PictureField";

/** One style: its picture, weight, scale and masks. */
export function StyleCard({ item, index }: { item: StyleItem; index: number }) {
  const remove = () => (styles.value = styles.value.filter((one) => one !== item));
  const replaceBy = (picture: Picture) =>
    (styles.value = styles.value.map((one) => (one === item ? { ...item, picture } : one)));
  const isOnly = styles.value.length === 1;
  // With a map of the canvas, each style needs a map in place of masks.
  const hasMap = Boolean(pictures.value["options.canvas_map"]);
  return (
    <PictureField
      label={isOnly ? "Style" : `Style ${index + 1}`}
      hint=""
      path={`styles[${index}].image`}
      picture={item.picture}
      onChange={([picture]) => picture && replaceBy(picture)}
      onRemove={remove}
    >
      <details class="adjust">
        <summary aria-label="Adjust weight, scale and masks">Adjust</summary>
        <div class="pair">
          <StyleField item={item} index={index} name="weight" />
          <StyleField item={item} index={index} name="scale" />
        </div>
        {!hasMap && <Mask item={item} name="mask" label="Mask of the canvas" />}
        {!hasMap && <Mask item={item} name="source_mask" label="Mask of this picture" />}
      </details>
      {hasMap && (
        <RegionMap item={item} label={isOnly ? "Map of the picture" : `Map of style ${index + 1}`} index={index} />
      )}
    </PictureField>
  );
}

function StyleField({ item, index, name }: { item: StyleItem; index: number; name: string }) {
  const change = (text: string) => (item.values.value = { ...item.values.value, [name]: text });
  return (
    <Field
      option={optionOf(`styles.${name}`)}
      path={`styles[${index}].${name}`}
      value={item.values.value[name] ?? ""}
      onChange={change}
    />
  );
}

/** A picture of the regions of a style in flat colors. */
function RegionMap({ item, label, index }: { item: StyleItem; label: string; index: number }) {
  const set = (picture: Picture | null) => setPicture(item.pictures, "source_map", picture);
  return (
    <PictureField
      label={label}
      hint="Drop or choose"
      path={`styles[${index}].source_map`}
      picture={item.pictures.value.source_map ?? null}
      isSmall
      onChange={([picture]) => picture && set(picture)}
      onRemove={() => set(null)}
    >
      <p class="hint">{label}: its regions in the colors of the canvas map.</p>
    </PictureField>
  );
}

/** A mask: painted with a brush, or a file. */
function Mask({ item, name, label }: { item: StyleItem; name: "mask" | "source_mask"; label: string }) {
  const [isOpen, setOpen] = useState(false);
  const mask = item.pictures.value[name] ?? null;
  const index = styles.value.indexOf(item);
  const url = mask?.url.value ?? "";
  return (
    <div class="mask">
      {mask && url && (
        <img class="mask-picture" src={url} alt={label} onLoad={(event) => mask.keepThumbnail(event.currentTarget)} />
      )}
      <button type="button" class="button" onClick={() => setOpen(true)}>
        {mask ? `Change: ${label.toLowerCase()}` : `Paint a ${label.toLowerCase()}`}
      </button>
      {mask && (
        <button
          type="button"
          class="button"
          onClick={() => setPicture(item.pictures, name, null)}
          aria-label={`Remove: ${label}`}
        >
          Remove
        </button>
      )}
      {isOpen && (
        <MaskEditor
          label={`${label}, style ${index + 1}`}
          hint={optionOf(`styles.${name}`).help}
          isOfSource={name === "source_mask"}
          source={item.picture}
          mask={mask}
          onDone={(picture) => {
            if (picture) setPicture(item.pictures, name, picture);
            setOpen(false);
          }}
        />
      )}
    </div>
  );
}
