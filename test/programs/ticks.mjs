// Timers in the main thread, arithmetic in a worker thread, and messages between the two.
import { createHash } from "node:crypto";
import { Worker } from "node:worker_threads";

const TICKS = Number(process.argv[2]);
const code = `
const { createHash } = require("node:crypto");
const { parentPort } = require("node:worker_threads");
let value = "start";
parentPort.on("message", (tick) => {
  for (let i = 0; i < 2000; i++) value = createHash("sha256").update(value + tick).digest("hex");
  parentPort.postMessage({ tick, value });
});`;
const worker = new Worker(code, { eval: true });
const all = createHash("sha256");
let ticks = 0;
let answers = 0;

const timer = setInterval(() => {
  ticks += 1;
  worker.postMessage(ticks);
  if (ticks === TICKS) clearInterval(timer);
}, 25);

worker.on("message", ({ tick, value }) => {
  answers += 1;
  if (tick !== answers) throw new Error(`Answer ${tick} came, ${answers} was due`);
  all.update(value);
  process.stdout.write(`${tick}\n`);
  if (answers < TICKS) return;
  process.stdout.write(`${all.digest("hex")}\n`);
  worker.terminate();
});
