/**
 * `floe lock DIR`: holds back the connections of a dump on the machine that is going to restore it.
 */
import { lockConnections } from "../../engine/locks.js";
import { print } from "../output.js";

export function lockCommand(directory: string): number {
  print(`${lockConnections(directory)} locked\n`);
  return 0;
}
