/**
 * What processes get from Floe whether they had it or not: the kernel hands it on to every child, and nobody can give it up again.
 *
 * Read from   Seccomp, Seccomp_filters (since 5.9) and NoNewPrivs in /proc/self/status
 *
 * Whoever confines Floe confines what it starts, as an engine does with all that is in a container. So it is said, and not refused
 * (docs/decisions/0044-confined-restores.md). Processes with filters of their own are refused there by security/seccomp.ts.
 */
import { SECCOMP_MODE_DISABLED } from "../../linux/seccomp.js";
import { readStatus } from "../../linux/proc/read.js";
import type { RestoreSession, RestoreTask } from "../part.js";

/** Warns, once for the whole tree and before anything is made. */
export function warnOfInherited(tasks: readonly RestoreTask[], session: Pick<RestoreSession, "warn">): void {
  const own = readStatus(process.pid);
  if (own.seccomp !== SECCOMP_MODE_DISABLED) {
    const filters = own.seccompFilters === undefined ? "a seccomp filter" : `${own.seccompFilters} seccomp filter(s)`;
    session.warn(
      `Floe runs under ${filters}, which the kernel hands on: the restored processes had none, and will be under it for as long as they live. ` +
        "System calls that it does not allow will fail or end them, and Floe cannot dump them from under it. " +
        "To restore them as they were, run Floe outside of the filter (containers: --security-opt seccomp=unconfined; systemd: without SystemCallFilter=)",
    );
  }
  const gaining = tasks.filter(({ threads }) => threads.some(({ core }) => core.thread_core?.creds?.no_new_privs !== 1));
  if (own.noNewPrivs && gaining.length > 0)
    session.warn(
      `Floe runs with no_new_privs, which the kernel hands on: processes ${pids(gaining)} did not have it, and programs that they execute ` +
        "will get no rights by set-user-ID bits or capabilities of files. To restore them as they were, run Floe without it " +
        "(containers: without no-new-privileges; systemd: without NoNewPrivileges=)",
    );
}

/** More are not listed. */
const MOST_LISTED = 5;

function pids(tasks: readonly RestoreTask[]): string {
  const listed = tasks.slice(0, MOST_LISTED).map(({ pid }) => pid);
  return `${listed.join(", ")}${tasks.length > MOST_LISTED ? ` and ${tasks.length - MOST_LISTED} more` : ""}`;
}
