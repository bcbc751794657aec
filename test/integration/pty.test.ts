import { suite } from "../harness/suite.js";
import { ptyCases } from "../workloads/ttys/cases.js";

suite("ptys", ptyCases);
