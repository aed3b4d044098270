/** Upgraded processes of the real command line: their successors end with the test, too. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { connectControl } from '../../lib/control/client/client.js';
import type { UpgradeAnswer } from '../../lib/status/types.js';
import { callVproxy } from './call-vproxy.js';
import { temporaryFolder } from './files.js';
import { type PairSetup, processPair } from './process-pair.js';
import { eventually } from './time.js';
import { ENDED, ESTABLISHED, isRunning, type RunResult, TAKING_CONTROL } from './vproxy-process.js';

/** Two processes with a session, each with a control socket: the host, then the guest. */
export async function upgradablePair(t: ExecutionContext, { host = [], guest = [], ...setup }: PairSetup) {
  const folder = temporaryFolder(t);
  const sockets = [join(folder, 'host.sock'), join(folder, 'guest.sock')] as const;
  const pair = await processPair(t, {
    ...setup,
    host: ['--control', sockets[0], ...host],
    guest: ['--control', sockets[1], ...guest],
  });
  const sides = [pair.host, pair.guest] as const;
  await Promise.all(sides.map((side) => side.waitForLine(TAKING_CONTROL)));
  const count = (pattern: RegExp) => sides.map(({ lines }) => lines.filter((line) => pattern.test(line)).length);
  return {
    ...{ host: pair.host, guest: pair.guest, sockets },
    clients: [connectControl(sockets[0]), connectControl(sockets[1])] as const,
    /** The sessions that each side has begun, and ended. */
    sessions: () => [count(ESTABLISHED), count(ENDED)],
  };
}

/** The value of `sessions` as long as the first one continues. */
export const ONE_SESSION = [
  [1, 1],
  [0, 0],
];

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

async function endProcess(pid: number): Promise<void> {
  if (!isRunning(pid)) return;
  process.kill(pid, 'SIGTERM');
  await eventually(() => !isRunning(pid), { what: `the end of process ${pid}` });
}

/** Whether a process waits for one descriptor, which an event loop never does: its main thread is in poll(2). */
export const isBlocked = (pid: number): boolean => /^(?!ep_).*poll/.test(readFileSync(`/proc/${pid}/wchan`, 'utf8'));
