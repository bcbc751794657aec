import { suite } from "../harness/suite.js";
import { cpuCases } from "../workloads/cpu/cases.js";

suite("cpu", cpuCases);
