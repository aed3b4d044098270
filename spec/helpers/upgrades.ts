/** Upgraded processes of the real command line: their successors end with the test, too. */
import { readFileSync } from 'node:fs';
import type { ExecutionContext } from 'ava';
import type { UpgradeAnswer } from '../../lib/status/types.js';
import { callVproxy } from './call-vproxy.js';
import { eventually } from './time.js';
import { isRunning, type RunResult } from './vproxy-process.js';

export function runUpgrade(socket: string, words: readonly string[] = []): Promise<RunResult> {
  return callVproxy(['upgrade', '--socket', socket, ...words]);
}

/** An upgrade that must succeed; returns its output. The successor ends with the test, unless it has been upgraded, too. */
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

/** Ends a successor with SIGTERM. */
export async function endProcess(pid: number): Promise<void> {
  if (!isRunning(pid)) return;
  process.kill(pid, 'SIGTERM');
  await eventually(() => !isRunning(pid), { what: `the end of process ${pid}` });
}

/** Whether a process waits for one descriptor, which an event loop never does: its main thread is in poll(2). */
export const isBlocked = (pid: number): boolean =>
  /^(?!ep_|do_epoll).*poll/.test(readFileSync(`/proc/${pid}/wchan`, 'utf8'));
