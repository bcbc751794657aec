/**
 * `floe unlock`: locks on TCP connections that dumps have left.
 */
import { print } from "../output.js";
import { UsageError } from "../../errors.js";
import { findLocks, liftLock } from "../../engine/locks.js";

/** Without an operand: lists them. `stale`: lifts those of sockets that are alive; otherwise the one of this id. */
export function unlockCommand(operand: string): number {
  const found = findLocks();
  if (operand === "") {
    for (const { id, here, there, isStale } of found) {
      const whose = isStale ? "stale: its socket is alive" : "waits for the restore";
      print(`${id}  ${endText(here)} - ${endText(there)}  ${whose}\n`);
    }
    if (found.length === 0) print("No connection is locked.\n");
    return 0;
  }
  const chosen = operand === "stale" ? found.filter((lock) => lock.isStale) : found.filter((lock) => lock.id === operand);
  if (chosen.length === 0 && operand !== "stale") {
    throw new UsageError({
      code: "LOCK_UNKNOWN",
      message: `There is no lock "${operand}" in this network namespace`,
      remedy: ["See floe unlock for the locks there are"],
    });
  }
  for (const { id } of chosen) liftLock(id);
  print(`${chosen.length} lifted\n`);
  return 0;
}

function endText({ address, port }: { address: Buffer; port: number }): string {
  if (address.length === 4) return `${[...address].join(".")}:${port}`;
  return `[${address.toString("hex").replace(/(....)(?=.)/g, "$1:")}]:${port}`;
}
