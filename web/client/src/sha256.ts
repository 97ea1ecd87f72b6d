// SHA-256 (FIPS 180-4) of pictures. Browsers have crypto.subtle only on https and localhost.

/** Returns the SHA-256 of some bytes as 64 lower-case hexadecimal digits. */
export async function sha256(data: Uint8Array): Promise<string> {
  const digest = globalThis.crypto?.subtle
    ? new Uint8Array(await crypto.subtle.digest("SHA-256", data as BufferSource))
    : sha256Here(data);
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Returns the SHA-256 of some bytes, 32 bytes, computed without crypto.subtle. */
export function sha256Here(data: Uint8Array): Uint8Array {
  const state = Uint32Array.from(fractions(8, 1 / 2));
  const constants = Uint32Array.from(fractions(64, 1 / 3));
  const words = new Uint32Array(64);
  const padded = pad(data);
  for (let at = 0; at < padded.byteLength; at += 64) compress(state, constants, words, padded, at);
  const digest = new DataView(new ArrayBuffer(32));
  state.forEach((word, i) => {
    digest.setUint32(4 * i, word);
  });
  return new Uint8Array(digest.buffer);
}

/** Section 5.1.1: a one bit, zeros up to 56 modulo 64 bytes, and the length in bits. */
function pad(data: Uint8Array): DataView {
  const padded = new Uint8Array(Math.ceil((data.length + 9) / 64) * 64);
  padded.set(data);
  padded[data.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setBigUint64(padded.length - 8, 8n * BigInt(data.length));
  return view;
}

/** Section 6.2.2: one block of 64 bytes at `at`. */
function compress(state: Uint32Array, constants: Uint32Array, w: Uint32Array, data: DataView, at: number): void {
  for (let t = 0; t < 16; t++) w[t] = data.getUint32(at + 4 * t);
  for (let t = 16; t < 64; t++) {
    const x = w[t - 15] as number;
    const y = w[t - 2] as number;
    const small0 = rotate(x, 7) ^ rotate(x, 18) ^ (x >>> 3);
    const small1 = rotate(y, 17) ^ rotate(y, 19) ^ (y >>> 10);
    w[t] = (w[t - 16] as number) + small0 + (w[t - 7] as number) + small1;
  }
  let [a, b, c, d, e, f, g, h] = state as unknown as [number, number, number, number, number, number, number, number];
  for (let t = 0; t < 64; t++) {
    const big1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
    const first = (h + big1 + ((e & f) ^ (~e & g)) + (constants[t] as number) + (w[t] as number)) | 0;
    const big0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
    const second = (big0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + first) | 0, c, b, a, (first + second) | 0];
  }
  [a, b, c, d, e, f, g, h].forEach((value, i) => {
    state[i] = (state[i] as number) + value;
  });
}

function rotate(x: number, bits: number): number {
  return (x >>> bits) | (x << (32 - bits));
}

/** Sections 4.2.2 and 5.3.3: the first 32 bits of the fractional parts of powers of the first primes. */
function fractions(count: number, power: number): number[] {
  const found: number[] = [];
  for (let n = 2; found.length < count; n++) {
    if (isPrime(n)) found.push((n ** power % 1) * 2 ** 32);
  }
  return found;
}

function isPrime(n: number): boolean {
  for (let d = 2; d * d <= n; d++) if (n % d === 0) return false;
  return true;
}
