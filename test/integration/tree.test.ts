import { suite } from "../harness/suite.js";
import { treeCases } from "../workloads/tree/cases.js";

suite("tree", treeCases);
