/**
 * The version: CRIU's, by which container engines judge what we can do, and our own.
 */
import { readFileSync } from "node:fs";

/** The version of CRIU whose command line, RPC and images these are. */
export const CRIU_VERSION = "4.1.1";

/** Put in by the build; a source tree looks it up. */
export function floeVersion(): string {
  const built = process.env.FLOE_VERSION;
  if (built !== undefined) return built;
  const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as { version: string };
  return version;
}

export function criuVersion(): string {
  return `Version: ${CRIU_VERSION}\nFloe ${floeVersion()}\n`;
}
