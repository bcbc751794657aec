/** Real programs in terminals that the tree provides itself: vim, top, less and a shell with a job below a tmux server. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { floeOfFile } from "../harness/tool.js";
import { casePatienceMs } from "../harness/patience.js";

const missing = ["tmux", "vim", "top", "less"].filter((name) => spawnSync("sh", ["-c", `command -v ${name}`]).status !== 0);
const skip = missing.length > 0 ? `not installed: ${missing.join(", ")}` : process.getuid?.() !== 0 ? "needs root" : false;

/** Terminals of its own, so that their numbers come free; then a server, frozen, killed and brought back. */
const script = (floe: string): string => `
# Until a pane shows a line with this pattern.
shows() {
  tries=0
  until tmux capture-pane -t "s:$1" -p | grep -q -e "$2"; do
    tries=$((tries + 1))
    [ $tries -gt 900 ] && { echo "pane $1 does not show $2:"; tmux capture-pane -t "s:$1" -p; exit 20; }
    sleep 0.05
  done
}
mount -t devpts devpts /dev/pts -o newinstance,ptmxmode=0666,mode=620 && mount --bind /dev/pts/ptmx /dev/ptmx || exit 10
export TERM=xterm TMUX_TMPDIR=$PWD HOME=$PWD
tmux -f /dev/null new-session -d -s s -x 80 -y 24 'vim -u NONE -n' || exit 11
tmux new-window -t s top
seq 1 500 > numbers
tmux new-window -t s 'less numbers'
tmux new-window -t s 'sh -i'
shows 0 '^~'
shows 1 Tasks
shows 2 '^23$'
shows 3 '^[#$]'
server=$(tmux display-message -p '#{pid}')
tmux send-keys -t s:0 'ifirst line' Escape
tmux send-keys -t s:2 Space
tmux send-keys -t s:3 'x=41; sleep 1000 & echo started' Enter
shows 0 '^first line'
shows 2 '^46$'
shows 3 '^started'
mkdir images
${floe} dump -t $server -D images -o dump.log -v4 || exit 12
tries=0
while kill -0 $server 2> /dev/null; do tries=$((tries + 1)); [ $tries -gt 900 ] && exit 13; sleep 0.05; done
${floe} restore -d -D images -o restore.log -v4 || exit 14
tmux send-keys -t s:0 'osecond line' Escape
tmux send-keys -t s:2 Space
tmux send-keys -t s:3 'clear; echo $((x + 1)); jobs; kill %1; echo ended' Enter
shows 0 '^second line'
shows 2 '^69$'
shows 3 '^ended'
# It shows arguments when it is told to, and not before.
tmux send-keys -t s:1 c
shows 1 'less nu'
tmux capture-pane -t s:0 -p | head -2
tmux capture-pane -t s:1 -p | grep -c Tasks
tmux capture-pane -t s:2 -p | head -1
tmux capture-pane -t s:3 -p | grep -c -e '^42$' -e 'Running.*sleep 1000'
tmux kill-server
`;

test("vim, top, less and a shell in tmux go on with their screens and take keys", { skip, timeout: casePatienceMs }, () => {
  const tool = floeOfFile();
  assert.ok(!("missing" in tool));
  const folder = mkdtempSync(join(tmpdir(), "floe-tmux-"));
  try {
    const command = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", script(tool.command.join(" "))];
    const { status, stdout, stderr } = spawnSync("unshare", command, { cwd: folder, encoding: "utf8", timeout: casePatienceMs });
    assert.equal(status, 0, `${stdout}\n${stderr}`);
    assert.deepEqual(stdout.split("\n").slice(0, 5), ["first line", "second line", "1", "47", "2"]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
