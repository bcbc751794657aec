import { suite } from "../harness/suite.js";
import { pipeCases } from "../workloads/pipes/cases.js";

suite("pipes", pipeCases);
