/** What is frozen and thawed: arguments of workload.c. */
export interface Scenario {
  readonly name: string;
  readonly workload: readonly string[];
  /** It is dumped and left running, and says itself how long it stood still. */
  readonly goesOn?: boolean;
}

export const scenarios: readonly Scenario[] = [
  { name: "tiny process", workload: ["tiny"] },
  { name: "256 MiB", workload: ["memory", "256"] },
  { name: "1 GiB", workload: ["memory", "1024"] },
  { name: "1 GiB, writing", workload: ["writer", "1024"], goesOn: true },
  { name: "4 GiB, writing", workload: ["writer", "4096"], goesOn: true },
  { name: "20000 mappings", workload: ["mappings", "20000"] },
  { name: "100 processes", workload: ["processes", "100"] },
  { name: "500 processes", workload: ["processes", "500"] },
  { name: "1000 threads", workload: ["threads", "1000"] },
  { name: "5000 threads", workload: ["threads", "5000"] },
  { name: "1000 descriptors", workload: ["descriptors", "1000"] },
];

/** Commands whose time is nearly all start-up. */
export const startups: readonly { readonly name: string; readonly words: readonly string[] }[] = [
  { name: "--version", words: ["--version"] },
  { name: "check", words: ["check"] },
];
