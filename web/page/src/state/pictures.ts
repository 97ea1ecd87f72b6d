// Pictures that the user gives: their upload and their URL on the page.

import { UnauthenticatedError, UnavailableError } from "@gramophone/client";
import { signal } from "@preact/signals";
import { client, explain, fetchPicture, isUploaded, online, token, tracked } from "../api";

/** Longest side of a small copy in pixels. */
const THUMBNAIL = 256;

let count = 0;

/** A picture of the form. */
export class Picture {
  readonly key = ++count;
  /** The hash of the uploaded file; empty while it is being uploaded. */
  readonly sha256 = signal("");
  readonly problem = signal("");
  /** Whether this is the server's copy in the size of an earlier job, because the server has not kept the file. */
  readonly isCopy = signal(false);
  /** A small copy as a data URL; empty if there is none. */
  thumbnail = "";
  /** URL for an image element: of the file itself, or of its small copy; empty for none. */
  readonly url = signal("");

  /**
   * @param name the name that the page shows.
   * @param origin where the bytes are: a file of the user, or the path of the copy of an earlier job.
   */
  private constructor(
    readonly name: string,
    readonly origin: Blob | string,
  ) {}

  /** A picture from a file of the user; starts its upload. */
  static fromFile(file: Blob, name: string): Picture {
    const picture = new Picture(name, file);
    picture.url.value = URL.createObjectURL(file);
    void picture.#upload(file);
    return picture;
  }

  /** A picture of an earlier job, with a small copy if there is one. */
  static ofJob(jobId: string, sha256: string, name: string, thumbnail = ""): Picture {
    const picture = new Picture(name, `jobs/${jobId}/inputs/${sha256}`);
    picture.sha256.value = sha256;
    picture.url.value = picture.thumbnail = thumbnail;
    void picture.ensure();
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

  /**
   * Uploads the picture again if its file is not among the uploaded ones: it was part of a request, or was not used for
   * some time, or the server has lost its data.
   */
  async ensure(): Promise<void> {
    if (!this.sha256.value) return;
    const isKnown = await isUploaded(this.sha256.value).catch(() => true);
    if (isKnown && this.url.value) return;
    const file = await this.#file().catch(() => undefined);
    if (file && !this.url.value) this.url.value = URL.createObjectURL(file);
    if (isKnown) return;
    if (!file) {
      this.problem.value = "The server does not have this file. Choose it again.";
      return;
    }
    this.isCopy.value = typeof this.origin === "string";
    this.sha256.value = "";
    await this.#upload(file);
  }

  async #file(): Promise<Blob> {
    return typeof this.origin === "string" ? fetchPicture(this.origin) : this.origin;
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
