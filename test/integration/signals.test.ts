import { suite } from "../harness/suite.js";
import { signalCases } from "../workloads/signals/cases.js";

suite("signals", signalCases);
