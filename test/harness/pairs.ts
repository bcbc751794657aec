/** Few combinations of several choices in which every two values that can meet do so at least once. */

type Choices = Record<string, readonly string[]>;

export type Combination<T extends Choices> = { [K in keyof T]: T[K][number] };

/**
 * Always the same list for the same choices: each time the combination is taken that has most pairs that did not occur yet.
 *
 * `isPossible` also judges combinations in which values are still open: it is to be false only for what no further value mends.
 */
export function allPairs<T extends Choices>(choices: T, isPossible: (one: Partial<Combination<T>>) => boolean): Combination<T>[] {
  const names = Object.keys(choices);
  let all: Record<string, string>[] = [{}];
  for (const name of names) all = all.flatMap((one) => (choices[name] ?? []).map((value) => ({ ...one, [name]: value })));
  const possible = all.filter((one) => isPossible(one as Partial<Combination<T>>));
  const pairsOf = (one: Record<string, string>): string[] =>
    names.flatMap((a, i) => names.slice(i + 1).map((b) => `${a} ${one[a]} ${b} ${one[b]}`));
  const open = new Set(possible.flatMap(pairsOf));
  const taken: Record<string, string>[] = [];
  while (open.size > 0) {
    const gain = (one: Record<string, string>): number => pairsOf(one).filter((pair) => open.has(pair)).length;
    const best = possible.reduce((a, b) => (gain(b) > gain(a) ? b : a));
    for (const pair of pairsOf(best)) open.delete(pair);
    taken.push(best);
  }
  return taken as Combination<T>[];
}
