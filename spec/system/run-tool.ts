/** Tools that leave something behind: what is killed, and what is not. */
import { join } from 'node:path';
import test from 'ava';
import { runTool } from '../../lib/system/processes/run-tool.js';
import { temporaryFolder } from '../helpers/files.js';
import { eventually, ManualClock } from '../helpers/time.js';

test.serial('a tool that has exited, and left its group, is not signalled: others may have its number', async (t) => {
  const clock = new ManualClock();
  const signals: (readonly [pid: number, signal: unknown])[] = [];
  const kill = process.kill.bind(process);
  process.kill = (pid, signal) => {
    signals.push([pid, signal]);
    return kill(pid, signal);
  };
  t.teardown(() => (process.kill = kill));
  const script = 'setsid sh -c \'echo $$; touch "$0"; exec sleep 60\' "$0" & until [ -e "$0" ]; do :; done';
  const words = ['sh', '-c', script, join(temporaryFolder(t), 'started')];
  const result = runTool(words, { timeoutMs: 1000, clock });
  await eventually(() => signals.some(([, signal]) => signal === 0), { what: 'a look for its group' });
  clock.advance(1000);
  const { end, stdout } = await result;
  t.teardown(() => kill(Number(stdout), 'SIGKILL'));
  t.deepEqual([end, signals.filter(([, signal]) => signal !== 0)], ['too-slow', []]);
});
