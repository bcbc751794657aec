/**
 * What Floe has to be allowed to do, asked before anything is touched.
 */
import { closeSync } from "node:fs";
import { KernelError, UsageError } from "../errors.js";
import { CAP_SYS_ADMIN, CAP_SYS_PTRACE, hasCapability } from "../linux/capabilities.js";
import { readSysctl } from "../linux/proc/read.js";
import { pidfdGetfd, pidfdOpen } from "../linux/process.js";

/** Throws when Floe lacks the rights that every dump and restore needs. */
export function requireRights(action: "dump" | "restore"): void {
  const missing = [
    [CAP_SYS_ADMIN, "CAP_SYS_ADMIN"],
    [CAP_SYS_PTRACE, "CAP_SYS_PTRACE"],
  ] as const;
  const names = missing.filter(([capability]) => !hasCapability(capability)).map(([, name]) => name);
  if (names.length > 0)
    throw new UsageError({
      code: "RIGHTS_MISSING",
      message: `Cannot ${action}: Floe lacks ${names.join(" and ")}`,
      remedy: ["Run it as root"],
    });
  requireTracing(action);
  requireDescriptors(action);
}

/** Of kernel.yama.ptrace_scope: nobody may trace anybody, whatever rights he has, until the machine starts again. */
const NO_TRACING = 3n;

function requireTracing(action: string): void {
  if (readSysctl("kernel/yama/ptrace_scope") !== NO_TRACING) return;
  throw new UsageError({
    code: "TRACING_FORBIDDEN",
    message: `Cannot ${action}: this machine allows nobody to trace processes (kernel.yama.ptrace_scope is 3)`,
    remedy: ["Set kernel.yama.ptrace_scope to 2 or less where it is set (/etc/sysctl.d), and start the machine again"],
  });
}

/** Tries pidfd_getfd(2) on ourselves, for which no right is needed: it fails where the kernel does not have it, or a filter refuses it. */
function requireDescriptors(action: string): void {
  let pidfd: number | undefined;
  try {
    pidfd = pidfdOpen(process.pid);
    closeSync(pidfdGetfd(pidfd, pidfd));
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    throw new UsageError({
      code: "DESCRIPTORS_UNREACHABLE",
      message: `Cannot ${action}: Floe may not take descriptors out of other processes: ${error.message}`,
      remedy: [
        "Allow pidfd_open(2) and pidfd_getfd(2) in the seccomp filter that Floe runs under (containers: --security-opt seccomp=unconfined)",
        "Where it runs under none: use Linux 5.6 or newer",
      ],
      cause: error,
    });
  } finally {
    if (pidfd !== undefined) closeSync(pidfd);
  }
}
