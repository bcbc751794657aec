import { suite } from "../harness/suite.js";
import { seccompCases } from "../workloads/seccomp/cases.js";

suite("seccomp", seccompCases);
suite("seccomp", seccompCases, { dump: "criu", restore: "floe", modes: ["killed-restored"] });
suite("seccomp", seccompCases, { dump: "floe", restore: "criu", modes: ["killed-restored"] });
