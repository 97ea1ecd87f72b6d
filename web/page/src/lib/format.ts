// Numbers and names as people read them.

/** Formats seconds: "8 s", "2 min 5 s", "1 h 20 min". */
export function duration(seconds: number): string {
  if (seconds < 1) return "less than 1 s";
  if (seconds < 59.5) return `${Math.round(seconds)} s`;
  const minutes = Math.floor((seconds + 0.5) / 60);
  if (minutes < 60) {
    const rest = Math.round(seconds - 60 * minutes);
    return rest > 0 ? `${minutes} min ${rest} s` : `${minutes} min`;
  }
  const rest = minutes % 60;
  return rest ? `${Math.floor(minutes / 60)} h ${rest} min` : `${minutes / 60} h`;
}

/** Formats bytes: "950 kB", "1.2 GB". */
export function bytes(count: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  let value = count;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${value < 10 && unit > 0 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** Formats a loss with three digits. */
export function loss(value: number): string {
  if (value === 0) return "0";
  return value >= 0.001 && value < 1e5 ? String(Number(value.toPrecision(3))) : value.toExponential(2);
}

/** Formats a time of day, with the date if it is not today. */
export function moment(date: Date, now = new Date()): string {
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  if (date.toDateString() === now.toDateString()) return time;
  return `${date.toLocaleDateString([], { month: "short", day: "numeric" })}, ${time}`;
}

/** Converts a name of the contract to words: "learning_rate" to "Learning rate". */
export function words(name: string): string {
  const text = name
    .replaceAll("_", " ")
    .replace(/\b(tv|lbfgs)\b/g, (short) => ({ tv: "total variation", lbfgs: "L-BFGS" })[short] ?? short);
  return text.charAt(0).toUpperCase() + text.slice(1);
}
