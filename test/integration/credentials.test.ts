import { suite } from "../harness/suite.js";
import { credentialCases } from "../workloads/credentials/cases.js";

suite("credentials", credentialCases);
