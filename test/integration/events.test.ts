import { suite } from "../harness/suite.js";
import { eventCases } from "../workloads/events/cases.js";

suite("events", eventCases);
suite("events", eventCases, { dump: "criu", restore: "floe", modes: ["killed-restored"] });
suite("events", eventCases, { dump: "floe", restore: "criu", modes: ["killed-restored"] });
