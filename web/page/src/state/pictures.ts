// Pictures that the user gives: their upload and their URL on the page.

import { UnauthenticatedError, UnavailableError } from "@gramophone/client";
import { signal } from "@preact/signals";
import { client, explain, online, token, tracked } from "../api";

let count = 0;

/** A picture of the form. */
export class Picture {
  readonly key = ++count;
  /** The hash of the uploaded file; empty while it is being uploaded. */
  readonly sha256 = signal("");
  readonly problem = signal("");
  /** URL for an image element: of the file itself, or the path of the server's small preview. */
  readonly url = signal("");

  private constructor(readonly name: string) {}

  /** A picture from a file of the user; starts its upload. */
  static fromFile(file: Blob, name: string): Picture {
    const picture = new Picture(name);
    picture.url.value = URL.createObjectURL(file);
    void picture.#upload(file);
    return picture;
  }

  /** A picture that was uploaded earlier. */
  static uploaded(sha256: string, name: string): Picture {
    const picture = new Picture(name);
    picture.sha256.value = sha256;
    picture.showPreview();
    return picture;
  }

  /** Shows the server's preview, for files that the browser cannot show. */
  showPreview(): void {
    if (this.sha256.value) this.url.value = `images/${this.sha256.value}/preview?size=512`;
  }

  /** Reacts to an image element that cannot show the picture. */
  notShown(): void {
    // The server has previews of all files that it has; it forgets files that no job has used for some time.
    if (!this.url.value.startsWith("blob:"))
      this.problem.value = "The server does not have this file. Choose it again.";
    else this.showPreview();
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
