/** A channel over a real sshd breaks again and again, and its streams continue (docs/channels.md, "Resuming"). */
import { randomInt } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { connectControl } from '../../lib/control/client/client.js';
import { Exchanges } from '../helpers/exchanges.js';
import { temporaryFolder } from '../helpers/files.js';
import { sshSearchPath } from '../helpers/ssh-server.js';
import { testWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { ENDED, spawnVproxy, TAKING_CONTROL } from '../helpers/vproxy-process.js';

const testWithServer = testWith('sshd', 'socat');

const KILLS = 24;
const STREAMS = 4;
/** A process is killed after at most this many more bytes, on all streams both ways together. */
const MAX_BETWEEN_BYTES = 1_000_000;
const TEST_MS = 600_000;

/** The running process that another one started last; null if none. */
function newestChild(pid: number | null): number | null {
  try {
    return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').at(-1)) || null;
  } catch {
    // It has just exited.
    return null;
  }
}

testWithServer('streams over ssh are whole, however often ssh or its server is killed', async (t) => {
  t.timeout(TEST_MS);
  const folder = temporaryFolder(t);
  const path = join(folder, 'channel.sock');
  const exchanges = await Exchanges.start(t);
  const sockets = ['far', 'near'].map((side) => join(folder, `${side}.control`));
  const [farSocket = '', nearSocket = ''] = sockets;
  const far = spawnVproxy(t, [
    ...['-c', `vm1=unix-listen:${path},resume=1m`, '-i', `x:${exchanges.targetPath}`, '--control', farSocket],
  ]);
  const nearArgs = ['-c', `vm1=ssh://host2${path}`, '-o', `x:${exchanges.localPath}`, '--control', nearSocket];
  const near = spawnVproxy(t, nearArgs, { env: { PATH: sshSearchPath(t) } });
  await Promise.all([far, near].map((side) => side.waitForLine(TAKING_CONTROL)));
  await exchanges.open(STREAMS);
  const clients = sockets.map((socket) => connectControl(socket));
  const channels = () => Promise.all(clients.map((client) => client.channel('vm1')));

  for (let kill = 0; kill < KILLS; kill += 1) {
    const from = near.lines.length;
    await exchanges.received(randomInt(1, MAX_BETWEEN_BYTES));
    const resumptions = (await channels()).map(({ totals }) => totals.resumptions);
    const client = newestChild(near.pid);
    // It starts the server, as the command of the channel.
    const victim = kill % 2 === 0 ? client : newestChild(client);
    if (victim === null) throw new Error('nothing carries the channel');
    process.kill(victim, 'SIGKILL');
    // Every third time the next ssh is killed, too, at any point of its way to a session.
    let isToDieEarly = kill % 3 === 0;
    await eventually(async () => {
      near.kill('SIGHUP');
      const next = newestChild(near.pid);
      if (isToDieEarly && next !== null && next !== client) {
        isToDieEarly = false;
        process.kill(next, 'SIGKILL');
      }
      return (await channels()).every(({ totals }, index) => totals.resumptions > (resumptions[index] ?? 0));
    });
    t.false(near.lines.slice(from).some((line) => ENDED.test(line)));
  }

  t.deepEqual(await exchanges.finish(), []);
  for (const { history } of await channels()) t.is(history.sessions, 1);
  for (const side of [far, near]) t.false(side.lines.some((line) => ENDED.test(line)));
  const [, { totals } = { totals: null }] = await channels();
  t.log(`${Math.round(exchanges.receivedBytes / 1e6)} MB, ${totals?.resumptions} resumptions`);
});
