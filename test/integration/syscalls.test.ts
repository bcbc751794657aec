import { suite } from "../harness/suite.js";
import { syscallCases } from "../workloads/syscalls/cases.js";

suite("syscalls", syscallCases);
