import type { ComponentChildren } from "preact";
import { useId, useState } from "preact/hooks";
import { Picture } from "../state/pictures";
import { problemOf } from "./Field";

interface PictureFieldProps {
  label: string;
  hint: string;
  /** The path that errors name. */
  path: string;
  picture: Picture | null;
  onChange: (pictures: Picture[]) => void;
  onRemove?: () => void;
  /** Whether several pictures can be given at once. */
  isMultiple?: boolean;
  isSmall?: boolean;
  children?: ComponentChildren;
}

/** A place to drop or choose a picture. */
export function PictureField({
  label,
  hint,
  path,
  picture,
  onChange,
  onRemove,
  isMultiple,
  isSmall,
  children,
}: PictureFieldProps) {
  const id = useId();
  const [isOver, setOver] = useState(false);
  const problem = picture?.problem.value || problemOf(path, isMultiple);
  const take = (files: Iterable<File>) => {
    const pictures = [...files].map((file) => Picture.fromFile(file, file.name));
    if (pictures.length) onChange(isMultiple ? pictures : pictures.slice(0, 1));
  };
  return (
    <fieldset
      aria-label={label}
      class={["drop", isOver && "over", picture && "has", isSmall && "small", problem && "wrong"]
        .filter(Boolean)
        .join(" ")}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        take(event.dataTransfer?.files ?? []);
      }}
    >
      <input
        id={id}
        class="hidden"
        type="file"
        accept="image/*,.heic,.avif,.tif,.tiff"
        multiple={isMultiple}
        aria-describedby={problem ? `${id}-problem` : undefined}
        aria-invalid={problem ? true : undefined}
        onChange={(event) => {
          take(event.currentTarget.files ?? []);
          event.currentTarget.value = "";
        }}
      />
      <label for={id} class="target">
        {picture ? <Thumbnail picture={picture} label={label} /> : <Invitation label={label} hint={hint} />}
      </label>
      {picture && onRemove && (
        <button type="button" class="remove" aria-label={`Remove: ${label}`} onClick={onRemove}>
          ×
        </button>
      )}
      {picture?.isCopy.value && <p class="hint">The job's own copy. Choose the original for a larger picture.</p>}
      {children}
      {problem && (
        <p class="problem" id={`${id}-problem`} role="alert">
          {problem}
        </p>
      )}
    </fieldset>
  );
}

function Invitation({ label, hint }: { label: string; hint: string }) {
  return (
    <>
      <svg class="plus" viewBox="0 0 24 24" aria-hidden="true">
        <path d="M12 5v14M5 12h14" />
      </svg>
      <span class="name">{label}</span>
      <span class="hint">{hint}</span>
    </>
  );
}

function Thumbnail({ picture, label }: { picture: Picture; label: string }) {
  const isUploading = !picture.sha256.value && !picture.problem.value;
  const url = picture.url.value;
  return (
    <>
      {url ? (
        <img
          src={url}
          alt={`${label}: ${picture.name}`}
          onLoad={(event) => picture.keepThumbnail(event.currentTarget)}
          onError={() => picture.notShown()}
        />
      ) : (
        <span class="unseen">
          <span class="name">{label}</span>
          <span class="hint">{picture.name}</span>
        </span>
      )}
      {isUploading && <span class="badge">Uploading…</span>}
      <span class="hidden">Choose another picture</span>
    </>
  );
}
