import { suite } from "../harness/suite.js";
import { taskCases } from "../workloads/tasks/cases.js";

suite("tasks", taskCases);
