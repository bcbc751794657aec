/** What is frozen and thawed: arguments of workload.c. */
export interface Scenario {
  readonly name: string;
  readonly workload: readonly string[];
}

export const scenarios: readonly Scenario[] = [
  { name: "tiny process", workload: ["tiny"] },
  { name: "256 MiB", workload: ["memory", "256"] },
  { name: "1 GiB", workload: ["memory", "1024"] },
  { name: "100 processes", workload: ["processes", "100"] },
  { name: "1000 threads", workload: ["threads", "1000"] },
  { name: "1000 descriptors", workload: ["descriptors", "1000"] },
];

/** Commands whose time is nearly all start-up. */
export const startups: readonly { readonly name: string; readonly words: readonly string[] }[] = [
  { name: "--version", words: ["--version"] },
  { name: "check", words: ["check"] },
];
