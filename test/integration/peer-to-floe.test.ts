/** What the peer dumped, Floe restores: every workload that the peer can carry. */
import { suite } from "../harness/suite.js";
import { allKinds } from "../workloads/all.js";
import { terminalSuite } from "../workloads/ttys/suite.js";

for (const [kind, cases] of allKinds) suite(kind, cases, { dump: "criu", restore: "floe", modes: ["killed-restored"] });
terminalSuite({ dump: "criu", restore: "floe" }, ["killed-restored"]);
