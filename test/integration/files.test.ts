import { suite } from "../harness/suite.js";
import { fileCases } from "../workloads/files/cases.js";

suite("files", fileCases);
