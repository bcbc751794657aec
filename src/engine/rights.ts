/**
 * What Floe has to be allowed to do, asked before anything is touched.
 */
import { UsageError } from "../errors.js";
import { CAP_SYS_ADMIN, CAP_SYS_PTRACE, hasCapability } from "../linux/capabilities.js";

/** Throws when Floe lacks the rights that every dump and restore needs. */
export function requireRights(action: "dump" | "restore"): void {
  const missing = [
    [CAP_SYS_ADMIN, "CAP_SYS_ADMIN"],
    [CAP_SYS_PTRACE, "CAP_SYS_PTRACE"],
  ] as const;
  const names = missing.filter(([capability]) => !hasCapability(capability)).map(([, name]) => name);
  if (names.length === 0) return;
  throw new UsageError({
    code: "RIGHTS_MISSING",
    message: `Cannot ${action}: Floe lacks ${names.join(" and ")}`,
    remedy: ["Run it as root"],
  });
}
