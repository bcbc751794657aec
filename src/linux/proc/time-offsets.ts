/**
 * /proc/PID/timens_offsets, time_namespaces(7): offsets that the time namespace for children adds to its clocks.
 */
import { bigDecimal, decimal, procTextError } from "./text.js";

/** An offset; may be negative in whole, nanoseconds are always 0 to 999 999 999. */
export interface ClockOffset {
  readonly seconds: bigint;
  readonly nanoseconds: number;
}

export interface TimeOffsets {
  readonly monotonic: ClockOffset;
  readonly boottime: ClockOffset;
}

/** Takes the bytes of a timens_offsets file apart. */
export function parseTimeOffsets(bytes: Buffer, path: string): TimeOffsets {
  const text = bytes.toString("latin1");
  const clock = (name: string): ClockOffset => {
    const line = text.split("\n").find((l) => l.startsWith(`${name} `));
    const [, seconds, nanoseconds] = line?.trim().split(/\s+/) ?? [];
    if (seconds === undefined || nanoseconds === undefined) throw procTextError(path, `it has no complete line "${name}"`);
    return { seconds: bigDecimal(seconds, path), nanoseconds: decimal(nanoseconds, path) };
  };
  return { monotonic: clock("monotonic"), boottime: clock("boottime") };
}
