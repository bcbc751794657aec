import { suite } from "../harness/suite.js";
import { attributeCases } from "../workloads/attributes3/cases.js";

suite("attributes beyond CRIU's images", attributeCases);
