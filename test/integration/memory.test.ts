import { suite } from "../harness/suite.js";
import { memoryCases } from "../workloads/memory/cases.js";

suite("memory", memoryCases);
