import { readFileSync } from "node:fs";

import type { Case } from "../../harness/run-case.js";

const CAP_SYS_RESOURCE = 24n;
const capabilities = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0"}`);
/** prlimit(2) of somebody else's process asks for it; Floe has the process look itself. */
const peerCannotOthers =
  (capabilities >> CAP_SYS_RESOURCE) & 1n
    ? {}
    : { peerCannot: "without CAP_SYS_RESOURCE it cannot read the limits of other users' processes" };

const credentials = (what: string, rows: readonly string[], claim: string, more: Partial<Case> = {}): Case => ({
  workload: "credentials/credentials",
  args: [what],
  rows,
  claim,
  ...more,
});

export const credentialCases: readonly Case[] = [
  credentials("ids", ["cred.ids-groups"], "four different user and group ids and the groups are kept", peerCannotOthers),
  credentials("caps", ["cred.caps"], "partial, bounding, inheritable and ambient capabilities are kept"),
  credentials("securebits", ["cred.caps"], "securebits are kept"),
  credentials("nnp", ["cred.no-new-privs"], "no_new_privs is kept"),
  credentials("threads", ["cred.ids-groups", "cred.caps"], "threads keep credentials of their own"),
  credentials("user", ["cred.ids-groups", "cred.dumpable"], "an ordinary user's process is kept", peerCannotOthers),
  credentials("user-hidden", ["cred.dumpable"], "a process that is not dumpable stays so", peerCannotOthers),
];
