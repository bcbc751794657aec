/** What Floe dumped, the peer restores: every workload that the peer can carry. */
import { suite } from "../harness/suite.js";
import { allKinds } from "../workloads/all.js";
import { terminalSuite } from "../workloads/ttys/suite.js";

for (const [kind, cases] of allKinds) suite(kind, cases, { dump: "floe", restore: "criu", modes: ["killed-restored"] });
terminalSuite({ dump: "floe", restore: "criu" }, ["killed-restored"]);
