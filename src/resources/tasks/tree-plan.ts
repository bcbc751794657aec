/**
 * Plans how a process tree is made: which task creates which, when sessions and groups come to be, who dies when.
 *
 * The parts  tree-check.ts refuses what cannot be; tree-search.ts chooses below whom everybody is born; tree-births.ts,
 *            tree-groups.ts and tree-ends.ts write the steps; tree-rounds.ts lets independent ones happen together.
 * Proof      the finished plan is carried out on a model of the kernel, and a plan that fails there is never returned.
 */
import { Refusal, invariant } from "../../errors.js";
import { addBirths } from "./tree-births.js";
import { checkSessions } from "./tree-check.js";
import { Draft } from "./tree-draft.js";
import { addEnds, addHelperEnds, addZombies } from "./tree-ends.js";
import { treeOrder } from "./tree-entries.js";
import { addGroups } from "./tree-groups.js";
import { type Layout, makeLayout } from "./tree-layout.js";
import { type SharedObjects, planSharing } from "./tree-sharing.js";
import { findPlaces } from "./tree-search.js";
import { differences, emptyWorld, simulate } from "./tree-simulate.js";
import type { Inherited, TreePlan, TreeTask } from "./tree-steps.js";

export interface PlanOptions {
  /** --shell-job: a root that leads no session is put into the coordinator's, and into its group if it leads none. */
  readonly shellJob?: boolean;
  /** Is a process id in use by something that is not of the tree? Asked for numbers of temporary tasks. */
  readonly isTaken?: (pid: number) => boolean;
  /** Where the tasks come from, for messages. */
  readonly file?: string;
  /** A dump may plan too, to refuse what could not be restored. */
  readonly verb?: "dump" | "restore";
  /** Which kernel objects the living tasks share. */
  readonly objects?: SharedObjects;
}

/** The plan for a tree; throws ImageError, Refusal or Problems when there is none. */
export function planTree(tasks: readonly TreeTask[], options: PlanOptions = {}): TreePlan {
  const { file = "pstree.img", verb = "restore", isTaken = () => false } = options;
  const ordered = treeOrder(tasks, file);
  const inherited = inheritedBy(ordered, options.shellJob === true, verb);
  checkSessions(ordered, inherited, { file, verb });
  const layout = placedLayout(ordered, inherited, verb);
  const draft = new Draft(ordered, inherited, isTaken);
  const carriers = addBirths(draft, layout);
  draft.barrier();
  addGroups(draft);
  draft.barrier();
  addEnds(draft, carriers);
  draft.barrier();
  addZombies(draft);
  const build = draft.takeRounds();
  addHelperEnds(draft);
  const finish = draft.takeRounds();
  const { objects = new Map() } = options;
  const sharing = planSharing(build, { tasks: ordered, inherited, objects }, verb);
  const plan = {
    build: sharing.build,
    finish,
    temporary: draft.temporary,
    memoryFrom: sharing.memoryFrom ?? draft.memoryFrom,
    signalled: draft.signalled(),
    inherited,
    shares: sharing.flags,
  };
  prove(plan, ordered);
  return plan;
}

/** What the root keeps of the coordinator's; undefined when it leads a session of its own. */
function inheritedBy(tasks: readonly TreeTask[], shellJob: boolean, verb: "dump" | "restore"): Inherited | undefined {
  const [root] = tasks;
  invariant(root !== undefined, "a tree without a root passed the check");
  if (root.sid === root.pid) return undefined;
  if (!shellJob) {
    throw new Refusal(
      {
        code: "ROOT_LEADS_NO_SESSION",
        process: { pid: root.pid, comm: root.comm ?? "?" },
        resource: `session ${root.sid}`,
        because: "its leader is outside the process tree",
        remedy:
          verb === "restore"
            ? ["Restore it with --shell-job: it gets the session, and the terminal, that the restore is in"]
            : ["Use --shell-job, for the restore as well", "Start the process tree with setsid(1)"],
      },
      verb,
    );
  }
  // The group of the outer session's leader cannot be made, so it is the one to inherit if anybody is in it. Else it is
  // the root's, unless that is a group of the tree.
  if (tasks.some((task) => task.pgid === root.sid)) return { sid: root.sid, pgid: root.sid };
  return { sid: root.sid, pgid: tasks.some((task) => task.pid === root.pgid) ? -1 : root.pgid };
}

function placedLayout(tasks: readonly TreeTask[], inherited: Inherited | undefined, verb: "dump" | "restore"): Layout {
  const layout = makeLayout(tasks, inherited);
  const result = findPlaces(layout);
  if (result.found) return layout;
  const pid = layout.pid[result.stuckOn] ?? 0;
  throw new Refusal(
    {
      code: "SESSIONS_NOT_REBUILDABLE",
      process: { pid, comm: tasks[result.stuckOn]?.comm ?? "?" },
      resource: `session ${layout.sid[result.stuckOn]}`,
      because: result.gaveUp ? "no order of forks that leads to it was found within the limit of tries" : "no order of forks leads to it",
      remedy: ["include the processes that the session came from in the process tree"],
    },
    verb,
  );
}

function prove(plan: TreePlan, tasks: readonly TreeTask[]): void {
  const model = emptyWorld(tasks, plan.inherited);
  simulate(model, plan.build, plan.inherited);
  const afterBuild = differences(model, tasks, false);
  invariant(afterBuild.length === 0, `the plan of the tree is wrong: ${afterBuild[0]}`);
  simulate(model, plan.finish, plan.inherited);
  const afterFinish = differences(model, tasks, true);
  invariant(afterFinish.length === 0, `the plan of the tree is wrong at the end: ${afterFinish[0]}`);
}
