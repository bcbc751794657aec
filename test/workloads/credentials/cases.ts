import type { Case } from "../../harness/run-case.js";

const credentials = (what: string, rows: readonly string[], claim: string): Case => ({
  workload: "credentials/credentials",
  args: [what],
  rows,
  claim,
});

export const credentialCases: readonly Case[] = [
  credentials("ids", ["cred.ids-groups"], "four different user and group ids and the groups are kept"),
  credentials("caps", ["cred.caps"], "partial, bounding, inheritable and ambient capabilities are kept"),
  credentials("securebits", ["cred.caps"], "securebits are kept"),
  credentials("nnp", ["cred.no-new-privs"], "no_new_privs is kept"),
  credentials("threads", ["cred.ids-groups", "cred.caps"], "threads keep credentials of their own"),
  credentials("user", ["cred.ids-groups", "cred.dumpable"], "an ordinary user's process is kept"),
  credentials("user-hidden", ["cred.dumpable"], "a process that is not dumpable stays so"),
];
