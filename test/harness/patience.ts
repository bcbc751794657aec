/**
 * How long tests wait for what must happen. Only what hangs reaches these limits: on a machine with much else to do a command
 * that takes a third of a second may well take ten.
 */

/** For one thing: a command, the start or the end of a process, a word that it says. */
export const patienceMs = 60_000;

/** For a whole case of several commands. */
export const casePatienceMs = 2.5 * patienceMs;

/** For the kernel to take away what is dead already. */
export const burialMs = 20_000;

export const pause = (ms: number): Promise<void> => new Promise((resume) => setTimeout(resume, ms));

/** Looks again and again until it is so; false when it never was. */
export async function becomesTrue(isSo: () => boolean | Promise<boolean>, limitMs = patienceMs): Promise<boolean> {
  for (const end = Date.now() + limitMs; ; await pause(5)) {
    if (await isSo()) return true;
    if (Date.now() > end) return false;
  }
}
