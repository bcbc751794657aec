/**
 * Bringing descriptors from the numbers they arrived under to the numbers they had, with one spare number at most: a table
 * may be as full as its limit allows.
 */

/** One entry of a descriptor table: number `fd` is open file `id`. */
export interface Placed {
  readonly id: number;
  readonly fd: number;
  readonly closeOnExec: boolean;
}

export type PlacingStep =
  | { readonly kind: "dup"; readonly from: number; readonly to: number; readonly closeOnExec: boolean }
  | { readonly kind: "close"; readonly fd: number }
  | { readonly kind: "flags"; readonly fd: number; readonly closeOnExec: boolean };

/** The steps from `arrived` (open file → its one number) to exactly `table`. */
export function placingSteps(arrived: ReadonlyMap<number, number>, table: readonly Placed[]): PlacingStep[] {
  return new Placing(arrived, table).steps();
}

class Placing {
  readonly #steps: PlacingStep[] = [];
  /** Where an open file can be had now. */
  readonly #at: Map<number, number>;
  /** Which open file stands under a number only because it arrived there. */
  readonly #guests: Map<number, number>;
  readonly #wanted = new Map<number, Placed>();
  /** Numbers of an open file that are not done. */
  readonly #left = new Map<number, number>();
  readonly #free: Placed[] = [];
  readonly #spare: number;

  constructor(arrived: ReadonlyMap<number, number>, table: readonly Placed[]) {
    this.#at = new Map(arrived);
    this.#guests = new Map([...arrived].map(([id, fd]) => [fd, id]));
    for (const entry of table) {
      if (!this.#at.has(entry.id)) continue;
      this.#wanted.set(entry.fd, entry);
      this.#left.set(entry.id, (this.#left.get(entry.id) ?? 0) + 1);
    }
    let spare = 0;
    while (this.#guests.has(spare) || this.#wanted.has(spare)) spare++;
    this.#spare = spare;
  }

  steps(): PlacingStep[] {
    for (const entry of [...this.#wanted.values()]) {
      const guest = this.#guests.get(entry.fd);
      if (guest === entry.id) this.#stays(entry);
      else if (guest === undefined) this.#free.push(entry);
    }
    for (const [id, fd] of [...this.#at]) if (!this.#left.has(id)) this.#leave(fd);
    while (this.#wanted.size > 0) {
      const next = this.#free.pop();
      if (next !== undefined) this.#put(next);
      else this.#breakCycle();
    }
    return this.#steps;
  }

  /** It arrived where it belongs. */
  #stays(entry: Placed): void {
    this.#guests.delete(entry.fd);
    this.#steps.push({ kind: "flags", fd: entry.fd, closeOnExec: entry.closeOnExec });
    this.#done(entry);
  }

  #put(entry: Placed): void {
    const from = this.#at.get(entry.id) as number;
    this.#steps.push({ kind: "dup", from, to: entry.fd, closeOnExec: entry.closeOnExec });
    this.#at.set(entry.id, entry.fd);
    if (this.#guests.has(from) || from === this.#spare) this.#leave(from);
    this.#done(entry);
  }

  #done(entry: Placed): void {
    this.#wanted.delete(entry.fd);
    const left = (this.#left.get(entry.id) as number) - 1;
    this.#left.set(entry.id, left);
  }

  /** A guest is needed there no longer. */
  #leave(fd: number): void {
    this.#guests.delete(fd);
    const waiting = this.#wanted.get(fd);
    // What belongs there replaces it in one step.
    if (waiting !== undefined) this.#free.push(waiting);
    else this.#steps.push({ kind: "close", fd });
  }

  /** Every number that is wanted has a guest who waits for another such number: one steps aside. */
  #breakCycle(): void {
    for (const [fd, id] of this.#guests) {
      if (!this.#wanted.has(fd)) continue;
      this.#steps.push({ kind: "dup", from: fd, to: this.#spare, closeOnExec: true });
      this.#at.set(id, this.#spare);
      this.#leave(fd);
      return;
    }
    throw new Error("internal error: descriptors cannot be put into place");
  }
}
