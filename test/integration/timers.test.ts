import { suite } from "../harness/suite.js";
import { timerCases } from "../workloads/timers/cases.js";

suite("timers", timerCases);
