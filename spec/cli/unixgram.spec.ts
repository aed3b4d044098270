/** /dev/log through two real processes: logger(1) on one side, a receiver on the other, and an upgrade of either. */
import { execFile } from 'node:child_process';
import { existsSync, lstatSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { temporaryFolder } from '../helpers/files.js';
import { processPair } from '../helpers/process-pair.js';
import { testWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { UnixgramProgram } from '../helpers/unixgram.js';
import { upgrade } from '../helpers/upgrades.js';

const run = promisify(execFile);

testWith('python')('lines of logger(1) arrive on the host through the same file, also after upgrades', async (t) => {
  const folder = temporaryFolder(t);
  const [log, target] = [join(folder, 'log'), join(folder, 'host.log')];
  const receiver = await UnixgramProgram.open(t, { at: target });
  const { guest, sockets, clients } = await processPair(t, {
    control: 'both',
    host: ['-i', `syslog:unixgram:${target}`],
    guest: ['-o', `syslog:unixgram:${log},mode=0666`],
  });
  await guest.waitForLine(/listening on unixgram:\S+ for syslog/);
  t.is(lstatSync(log).mode & 0o777, 0o666);
  const say = async (text: string): Promise<void> => {
    // A line sent between two processes may be lost, as any datagram.
    await eventually(
      async () => {
        await run('logger', ['-u', log, '-d', '-t', 'spec', text]);
        return receiver.texts.some((line) => line.endsWith(`spec: ${text}`));
      },
      { intervalMs: 100, what: text },
    );
  };
  await say('before');
  const { ino } = lstatSync(log);
  t.is((await upgrade(t, sockets[1])).listeners, 2);
  await say('behind the upgrade of the guest');
  await upgrade(t, sockets[0]);
  await say('behind that of the host');
  t.is(lstatSync(log).ino, ino);
  const [forward] = await clients[1].forwards();
  t.is(forward?.endpoint, `unixgram:${log},mode=0666`);
  await clients[1].removeForward(forward?.id ?? '');
  t.false(existsSync(log));
});
