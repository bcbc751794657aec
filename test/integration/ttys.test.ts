import { toolUnderTest } from "../harness/tool.js";
import { terminalSuite } from "../workloads/ttys/suite.js";

const tool = toolUnderTest();
terminalSuite({ dump: tool, restore: tool }, ["alone", "left-running", "killed-restored", "twice"]);
