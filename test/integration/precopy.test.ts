import { suite } from "../harness/suite.js";
import { precopyCases } from "../workloads/precopy/cases.js";

suite("precopy", precopyCases);
