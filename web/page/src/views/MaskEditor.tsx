import type { RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { MaskPainter, type Point } from "../lib/mask";
import { content, hasContent } from "../state/form";
import { Picture } from "../state/pictures";

interface MaskEditorProps {
  label: string;
  hint: string;
  /** Whether the mask is over the style's own picture, not over the canvas. */
  isOfSource: boolean;
  source: Picture;
  mask: Picture | null;
  /** Is called with the painted mask, or with null if it stays as it was. */
  onDone: (mask: Picture | null) => void;
}

const MOVES: Record<string, [number, number]> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

/** A dialog to paint a mask with a brush, with the pointer or with the keyboard. */
export function MaskEditor({ label, hint, isOfSource, source, mask, onDone }: MaskEditorProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const under = isOfSource ? source : hasContent.value ? content.value : null;
  const underUrl = under?.url.value ?? "";
  const maskUrl = mask?.url.value ?? "";
  const { canvas, painter } = usePainter(underUrl, maskUrl);
  const [size, setSize] = useState(60);
  const [isErasing, setErasing] = useState(false);
  const brush = useBrush(painter, size, isErasing);
  useEffect(() => dialog.current?.showModal(), []);
  const use = async () => {
    const file = await painter.current?.file();
    onDone(file ? Picture.fromFile(file, "painted mask") : null);
  };
  return (
    <dialog ref={dialog} class="masking" aria-label={label} onClose={() => onDone(null)}>
      <h2>{label}</h2>
      <p class="hint">{hint} Arrow keys move the brush, space paints.</p>
      <div class="easel">
        {underUrl && <img src={underUrl} alt="" />}
        {/* biome-ignore lint/a11y/noInteractiveElementToNoninteractiveRole: the arrow keys move its brush. */}
        <canvas
          ref={canvas}
          tabIndex={0}
          role="application"
          aria-label={`${label}. Arrow keys move the brush, space paints.`}
          {...brush.handlers}
        />
        <Cursor at={brush.at} size={size} canvas={canvas} />
      </div>
      <div class="tools">
        <label class="brush">
          <span>Brush</span>
          <input
            type="range"
            min={8}
            max={240}
            value={size}
            aria-valuetext={`${size} pixels`}
            onInput={(event) => setSize(Number(event.currentTarget.value))}
          />
        </label>
        <button type="button" class="button" aria-pressed={isErasing} onClick={() => setErasing(!isErasing)}>
          Erase
        </button>
        <button type="button" class="button" onClick={() => painter.current?.undo()}>
          Undo
        </button>
        <button type="button" class="button" onClick={() => painter.current?.invert()}>
          Invert
        </button>
        <button type="button" class="button" onClick={() => painter.current?.clear()}>
          Clear
        </button>
        <FileButton onFile={(file) => onDone(Picture.fromFile(file, file.name))} />
      </div>
      <div class="ending">
        <button type="button" class="button" onClick={() => dialog.current?.close()}>
          Cancel
        </button>
        <button type="button" class="primary" onClick={() => void use()}>
          Use this mask
        </button>
      </div>
    </dialog>
  );
}

function usePainter(underUrl: string, maskUrl: string) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const painter = useRef<MaskPainter | null>(null);
  useEffect(() => {
    void (async () => {
      if (!canvas.current || painter.current) return;
      const under = underUrl ? await loaded(underUrl) : null;
      const color = getComputedStyle(canvas.current).color;
      painter.current = new MaskPainter(canvas.current, under ? under.naturalWidth / under.naturalHeight : 1, color);
      if (maskUrl) painter.current.show(await loaded(maskUrl));
    })();
  }, [underUrl, maskUrl]);
  return { canvas, painter };
}

/** Paints with the pointer and with the keyboard. */
function useBrush(painter: RefObject<MaskPainter | null>, size: number, isErasing: boolean) {
  const last = useRef<Point | null>(null);
  const [at, setAt] = useState<Point | null>(null);
  const paintTo = (to: Point) => {
    painter.current?.stroke(last.current ?? to, to, size, isErasing);
    last.current = to;
  };
  const handlers = {
    onPointerDown: (event: PointerEvent) => {
      (event.currentTarget as Element).setPointerCapture(event.pointerId);
      painter.current?.keep();
      paintTo(pointOf(event));
    },
    onPointerMove: (event: PointerEvent) => {
      setAt(pointOf(event));
      if (last.current) paintTo(pointOf(event));
    },
    onPointerUp: () => (last.current = null),
    onPointerCancel: () => (last.current = null),
    onPointerLeave: () => setAt(null),
    onKeyDown: (event: KeyboardEvent) => {
      const { canvas } = painter.current ?? {};
      const move = MOVES[event.key];
      if (!canvas || !(move || event.key === " ")) return;
      event.preventDefault();
      const from = at ?? { x: canvas.width / 2, y: canvas.height / 2 };
      if (!move) {
        painter.current?.keep();
        painter.current?.stroke(from, from, size, isErasing);
        setAt(from);
        return;
      }
      const step = Math.max(8, size / 3);
      const inside = (value: number, most: number) => Math.min(most, Math.max(0, value));
      setAt({ x: inside(from.x + move[0] * step, canvas.width), y: inside(from.y + move[1] * step, canvas.height) });
    },
  };
  return { at, handlers };
}

/** The ring of the brush, also for the keyboard. */
function Cursor({ at, size, canvas }: { at: Point | null; size: number; canvas: RefObject<HTMLCanvasElement | null> }) {
  const { width = 1, height = 1 } = canvas.current ?? {};
  if (!at) return null;
  return (
    <svg class="cursor" viewBox={`0 0 ${width} ${height}`} aria-hidden="true">
      <circle cx={at.x} cy={at.y} r={size / 2} />
    </svg>
  );
}

function FileButton({ onFile }: { onFile: (file: File) => void }) {
  return (
    <label class="button file">
      <input
        class="hidden"
        type="file"
        accept="image/*"
        onChange={(event) => {
          const file = event.currentTarget.files?.[0];
          if (file) onFile(file);
        }}
      />
      From a file
    </label>
  );
}

function pointOf(event: PointerEvent): Point {
  const canvas = event.currentTarget as HTMLCanvasElement;
  const box = canvas.getBoundingClientRect();
  return {
    x: ((event.clientX - box.left) / box.width) * canvas.width,
    y: ((event.clientY - box.top) / box.height) * canvas.height,
  };
}

async function loaded(url: string): Promise<HTMLImageElement> {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}
