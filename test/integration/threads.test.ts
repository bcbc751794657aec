import { suite } from "../harness/suite.js";
import { threadCases } from "../workloads/threads/cases.js";

suite("threads", threadCases);
