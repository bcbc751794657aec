/**
 * Progress of long work, on one line of a terminal; nothing when standard error is none.
 */
import type { ProgressHook } from "../engine/options.js";
import { isatty } from "../linux/terminals.js";
import { printError } from "./output.js";

const STDERR = 2;

const FIRST_AFTER_MS = 500;
const EVERY_MS = 100;
const CLEAR_LINE = "\r\x1b[K";

const UNITS = ["bytes", "KiB", "MiB", "GiB", "TiB"];

/** A number of bytes as people read it. */
export function sizeText(bytes: number): string {
  const step = Math.min(UNITS.length - 1, bytes < 1024 ? 0 : Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** step;
  return `${step === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[step]}`;
}

/** A hook that draws, and what wipes the drawing. */
export interface ProgressLine {
  readonly hook: ProgressHook | undefined;
  end(): void;
}

/** Short work shows nothing: a line appears after half a second only. */
export function progressLine(): ProgressLine {
  if (!isatty(STDERR)) return { hook: undefined, end() {} };
  let next = performance.now() + FIRST_AFTER_MS;
  let isDrawn = false;
  return {
    hook({ doing, doneBytes, totalBytes }) {
      const now = performance.now();
      if (now < next) return;
      next = now + EVERY_MS;
      isDrawn = true;
      const percent = totalBytes > 0 ? Math.floor((100 * doneBytes) / totalBytes) : 0;
      printError(`${CLEAR_LINE}${doing}: ${percent}% of ${sizeText(totalBytes)}`);
    },
    end() {
      if (isDrawn) printError(CLEAR_LINE);
      isDrawn = false;
    },
  };
}
