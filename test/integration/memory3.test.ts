import { suite } from "../harness/suite.js";
import { memory3Cases, sharedCases } from "../workloads/memory3/cases.js";

suite("memory3", memory3Cases);
suite("memory3", sharedCases, { dump: "criu", restore: "floe", modes: ["killed-restored"] });
suite("memory3", sharedCases, { dump: "floe", restore: "criu", modes: ["killed-restored"] });
