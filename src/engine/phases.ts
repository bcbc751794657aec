/**
 * Where the time goes: named phases one after another, in microseconds.
 */

/** A clock over named phases. */
export class Phases {
  readonly #spent = new Map<string, number>();
  #now: string | undefined;
  #since = 0;

  /** Ends the present phase and begins another. */
  enter(name: string): void {
    this.leave();
    this.#now = name;
    this.#since = performance.now();
  }

  leave(): void {
    if (this.#now === undefined) return;
    const spent = (performance.now() - this.#since) * 1000;
    this.#spent.set(this.#now, (this.#spent.get(this.#now) ?? 0) + spent);
    this.#now = undefined;
  }

  /** Microseconds spent in the phases named. */
  us(...names: readonly string[]): number {
    return Math.round(names.reduce((sum, name) => sum + (this.#spent.get(name) ?? 0), 0));
  }

  /** All phases in the order in which they were entered. */
  all(): readonly (readonly [string, number])[] {
    return [...this.#spent].map(([name, us]) => [name, Math.round(us)] as const);
  }
}
