/**
 * Beginning anew: the same command in the same process, where its threads have ids that the tree to be restored needs. The restore has
 * seen to it that the new threads get others.
 */
import { readFileSync, readlinkSync } from "node:fs";
import { isInOwnWay } from "../engine/restore-ids.js";
import { execve } from "../linux/exec.js";
import { setDescriptorFlags } from "../linux/fcntl.js";
import { parseStrings } from "../linux/proc/strings.js";
import type { Settings } from "./options/spec.js";

/** Set in the environment of a process that has begun anew. */
const ONCE = "FLOE_BEGUN_ANEW";
const hasBegunAnew = process.env[ONCE] !== undefined;
// Nobody that we start needs to know.
delete process.env[ONCE];

/** Does `action`, a restore that has made nothing when it throws; once more if our own threads were in its way. */
export function anewIfInOwnWay<T>(settings: Settings, action: () => T): T {
  try {
    return action();
  } catch (error) {
    if (isInOwnWay(error) && mayBeginAnew(settings)) beginAnew(settings);
    throw error;
  }
}

/** Not twice, and not when something was used up: what was closed, or read from standard input. */
function mayBeginAnew({ close, stream }: Settings): boolean {
  return !hasBegunAnew && close.length === 0 && !stream;
}

/** A JavaScript runtime closes the descriptors that it was started with when another program begins. */
function beginAnew(settings: Settings): never {
  const given = settings.inheritFd.flatMap((text) => /^fd\[(\d+)\]/.exec(text)?.[1] ?? []).map(Number);
  for (const fd of [...given, ...(settings.statusFd === undefined ? [] : [settings.statusFd])]) setDescriptorFlags(fd, 0);
  const words = parseStrings(readFileSync("/proc/self/cmdline"));
  execve(readlinkSync("/proc/self/exe"), words, { ...process.env, [ONCE]: "1" });
}
