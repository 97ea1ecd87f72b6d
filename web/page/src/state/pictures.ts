// Pictures that the user gives: their upload and their URL on the page.

import { UnauthenticatedError, UnavailableError } from "@gramophone/client";
import { signal } from "@preact/signals";
import { client, explain, isUploaded, online, token, tracked } from "../api";

/** Longest side of a small copy in pixels. */
const THUMBNAIL = 256;

let count = 0;

/** A picture of the form. */
export class Picture {
  readonly key = ++count;
  /** The hash of the uploaded file; empty while it is being uploaded. */
  readonly sha256 = signal("");
  readonly problem = signal("");
  /** A small copy as a data URL; empty if there is none. */
  thumbnail = "";
  /** URL for an image element: of the file itself, or of its small copy; empty for none. */
  readonly url = signal("");

  private constructor(readonly name: string) {}

  /** A picture from a file of the user; starts its upload. */
  static fromFile(file: Blob, name: string): Picture {
    const picture = new Picture(name);
    picture.url.value = URL.createObjectURL(file);
    void picture.#upload(file);
    return picture;
  }

  /** A picture that was uploaded earlier, with a small copy if there is one. */
  static uploaded(sha256: string, name: string, thumbnail = ""): Picture {
    const picture = new Picture(name);
    picture.sha256.value = sha256;
    picture.url.value = picture.thumbnail = thumbnail;
    void picture.#check();
    return picture;
  }

  /** Keeps a small copy of the picture as an image element shows it: the server has no copy for browsers. */
  keepThumbnail(image: HTMLImageElement): void {
    if (this.thumbnail || !image.naturalWidth) return;
    const canvas = document.createElement("canvas");
    const scale = Math.min(1, THUMBNAIL / Math.max(image.naturalWidth, image.naturalHeight));
    canvas.width = Math.max(1, Math.round(image.naturalWidth * scale));
    canvas.height = Math.max(1, Math.round(image.naturalHeight * scale));
    canvas.getContext("2d")?.drawImage(image, 0, 0, canvas.width, canvas.height);
    this.thumbnail = canvas.toDataURL("image/jpeg", 0.8);
  }

  /** Shows no picture: the browser cannot read the file, which the server may. */
  notShown(): void {
    this.url.value = "";
  }

  /** The server forgets files that no job has used for some time. */
  async #check(): Promise<void> {
    const known = await isUploaded(this.sha256.value).catch(() => true);
    if (!known) this.problem.value = "The server does not have this file. Choose it again.";
  }

  async #upload(file: Blob): Promise<void> {
    this.problem.value = "";
    try {
      const { sha256 } = await tracked(() => client.upload(file));
      this.sha256.value = sha256;
    } catch (error) {
      this.problem.value = explain(error);
      onceChanged(error, () => void this.#upload(file));
    }
  }
}

/** Tries again when the token has changed, or when the server answers again. */
function onceChanged(error: unknown, again: () => void): void {
  const cause = error instanceof UnauthenticatedError ? token : error instanceof UnavailableError ? online : undefined;
  const before = cause?.peek();
  const stop = cause?.subscribe((now) => {
    if (now === before) return;
    queueMicrotask(() => stop?.());
    again();
  });
}
