/** Processes of the real command line that are upgraded: their successors end with the test, too. */
import { readFileSync } from 'node:fs';
import type { ExecutionContext } from 'ava';
import type { UpgradeAnswer } from '../../lib/status/types.js';
import { eventually } from './time.js';
import { isRunning, type RunResult, runVproxy } from './vproxy-process.js';

/** A successor that is waited for may take 30 s. */
const UPGRADE_MS = 60_000;

/** Runs `vproxy upgrade` for the process behind a control socket. */
export function runUpgrade(socket: string, words: readonly string[] = []): Promise<RunResult> {
  return runVproxy(['upgrade', '--socket', socket, ...words], { timeoutMs: UPGRADE_MS });
}

/** The same, which has to succeed; what it says. The successor is ended with the test, unless it has been upgraded as well by then. */
export async function upgrade(
  t: ExecutionContext,
  socket: string,
  words: readonly string[] = [],
): Promise<UpgradeAnswer> {
  const { code, stdout, stderr } = await runUpgrade(socket, [...words, '--json']);
  if (code !== 0) throw new Error(`vproxy upgrade ended with ${code}: ${stderr}`);
  const answer = JSON.parse(stdout) as UpgradeAnswer;
  t.teardown(() => endProcess(answer.pid));
  return answer;
}

/** Ends a process that is no child of this one, and waits until it has ended. */
async function endProcess(pid: number): Promise<void> {
  if (!isRunning(pid)) return;
  process.kill(pid, 'SIGTERM');
  await eventually(() => !isRunning(pid), { what: `the end of process ${pid}` });
}

/** Whether a process waits for one descriptor, which an event loop never does: its main thread is in poll(2). */
export const isBlocked = (pid: number): boolean => /^(?!ep_).*poll/.test(readFileSync(`/proc/${pid}/wchan`, 'utf8'));
