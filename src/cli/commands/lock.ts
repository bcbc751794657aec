/**
 * `floe lock DIR`: holds back the connections of a dump on the machine that is going to restore it.
 */
import { lockConnections } from "../../engine/locks.js";
import type { Settings } from "../options/spec.js";
import { print } from "../output.js";

export function lockCommand(directory: string, settings: Settings): number {
  print(`${lockConnections(directory, settings.mapIp)} locked\n`);
  return 0;
}
