/** What is frozen and thawed: arguments of workload.c. */
export interface Scenario {
  readonly name: string;
  readonly workload: readonly string[];
  /** It is dumped and left running, and says itself how long it stood still. */
  readonly goesOn?: boolean;
  /** Restored also lazily: how long it takes until the program runs again. */
  readonly lazy?: boolean;
  /** Dumped twice, with a part of its memory written in between: the figures are those of the second dump. */
  readonly increment?: boolean;
  /** By one command that dumps again and again (`--every`), which only Floe has; with `increment`. */
  readonly every?: boolean;
  /** Options of the dump that only Floe has. */
  readonly own?: readonly string[];
  /** Options of every dump and restore. */
  readonly options?: readonly string[];
  /** It has the network to itself, and a process outside of the tree at the other end. */
  readonly isOnNetwork?: boolean;
}

export const scenarios: readonly Scenario[] = [
  { name: "tiny process", workload: ["tiny"] },
  { name: "256 MiB", workload: ["memory", "256"] },
  { name: "1 GiB", workload: ["memory", "1024"], lazy: true },
  { name: "4 GiB", workload: ["memory", "4096"] },
  { name: "1 GiB, writing", workload: ["writer", "1024"], goesOn: true },
  { name: "4 GiB, writing", workload: ["writer", "4096"], goesOn: true },
  { name: "1 GiB, increment of 1 %", workload: ["increment", "1024"], increment: true },
  { name: "1 GiB, increment of 1 %, --every", workload: ["increment", "1024"], increment: true, every: true },
  { name: "64 MiB with 8 children", workload: ["relatives", "64"] },
  { name: "64 MiB with 8 children, --share-pages", workload: ["relatives", "64"], own: ["--share-pages"] },
  { name: "20000 mappings", workload: ["mappings", "20000"] },
  { name: "100 processes", workload: ["processes", "100"] },
  { name: "500 processes", workload: ["processes", "500"] },
  { name: "1000 threads", workload: ["threads", "1000"] },
  { name: "5000 threads", workload: ["threads", "5000"] },
  { name: "1500 descriptors", workload: ["descriptors", "1500"] },
  { name: "400 TCP connections", workload: ["connections", "400"], options: ["--tcp-established"], isOnNetwork: true },
];

/** Commands whose time is nearly all start-up. */
export const startups: readonly { readonly name: string; readonly words: readonly string[] }[] = [
  { name: "--version", words: ["--version"] },
  { name: "check", words: ["check"] },
];
