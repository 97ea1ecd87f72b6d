// A mask on a canvas element: opaque pixels are inside, transparent pixels are outside.

/** Longest side of a painted mask in pixels; the server resizes it to the canvas. */
const SIDE = 768;
const MOST_UNDO = 20;

export interface Point {
  x: number;
  y: number;
}

/** Paints a mask on a canvas element. */
export class MaskPainter {
  #context: CanvasRenderingContext2D;
  #undo: ImageData[] = [];

  constructor(
    readonly canvas: HTMLCanvasElement,
    aspect: number,
    readonly color: string,
  ) {
    canvas.width = Math.round(aspect >= 1 ? SIDE : SIDE * aspect);
    canvas.height = Math.round(aspect >= 1 ? SIDE / aspect : SIDE);
    this.#context = canvas.getContext("2d", { willReadFrequently: true }) as CanvasRenderingContext2D;
    Object.assign(this.#context, { lineCap: "round", lineJoin: "round", strokeStyle: color, fillStyle: color });
  }

  /** Keeps the current mask for `undo`; call it before a change. */
  keep(): void {
    this.#undo = [...this.#undo, this.#pixels()].slice(-MOST_UNDO);
  }

  /** Takes back the latest change. */
  undo(): void {
    const last = this.#undo.pop();
    if (last) this.#context.putImageData(last, 0, 0);
  }

  /** Draws a line with a round brush, or erases along it; positions and width in pixels of the canvas. */
  stroke(from: Point, to: Point, width: number, isErasing: boolean): void {
    this.#with(isErasing ? "destination-out" : "source-over", (context) => {
      context.lineWidth = width;
      context.beginPath();
      context.moveTo(from.x, from.y);
      context.lineTo(to.x, to.y + 0.01);
      context.stroke();
    });
  }

  clear(): void {
    this.keep();
    this.#context.clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  /** Exchanges inside and outside. */
  invert(): void {
    this.keep();
    this.#with("source-out", (context) => context.fillRect(0, 0, this.canvas.width, this.canvas.height));
  }

  /** Shows an existing mask, whose white is inside. */
  show(picture: CanvasImageSource): void {
    const { width, height } = this.canvas;
    this.#context.drawImage(picture, 0, 0, width, height);
    const pixels = this.#pixels();
    for (let at = 0; at < pixels.data.length; at += 4) pixels.data[at + 3] = pixels.data[at] as number;
    this.#context.putImageData(pixels, 0, 0);
    this.#with("source-in", (context) => context.fillRect(0, 0, width, height));
  }

  /** Returns the mask as a PNG with white inside and black outside; null if nothing is painted. */
  async file(): Promise<Blob | null> {
    const pixels = this.#pixels();
    let isEmpty = true;
    for (let at = 0; at < pixels.data.length; at += 4) {
      const level = pixels.data[at + 3] as number;
      pixels.data.fill(level, at, at + 3);
      pixels.data[at + 3] = 255;
      if (level) isEmpty = false;
    }
    const copy = document.createElement("canvas");
    copy.width = this.canvas.width;
    copy.height = this.canvas.height;
    copy.getContext("2d")?.putImageData(pixels, 0, 0);
    return isEmpty ? null : new Promise((resolve) => copy.toBlob(resolve, "image/png"));
  }

  #pixels(): ImageData {
    return this.#context.getImageData(0, 0, this.canvas.width, this.canvas.height);
  }

  #with(operation: GlobalCompositeOperation, draw: (context: CanvasRenderingContext2D) => void): void {
    this.#context.globalCompositeOperation = operation;
    draw(this.#context);
    this.#context.globalCompositeOperation = "source-over";
  }
}
