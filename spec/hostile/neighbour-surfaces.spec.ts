/** A neighbour's echoes beside a guest that uses one surface of its channel as hard as it can: at most twice as long as in quiet. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import test, { type ExecutionContext } from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { HOSTILE_SURFACES, SURFACES } from '../helpers/hostile-surfaces.js';
import {
  besideGuest,
  type HostileChannel,
  requireGoodEchoes,
  startHostile,
  startNeighbours,
} from '../helpers/neighbours.js';

const MEASURING = { rounds: 3, echoesPerRound: 100, attempts: 4, timesBusier: 1.5 };

/** What the hostile guest's channel has beside the usual services; `port` is that of a program that takes all. */
const channelOf = (port: number, folder: string): HostileChannel => ({
  incoming: ['web:egress:', 'dns:resolver:web', `datagrams:udp:127.0.0.1:${port}`],
  options: {
    egress: { web: { allow: ['allowed.example:80'] } },
    info: true,
    exec: {},
    copy: { root: null },
    // A unix socket for each, in a folder.
    forwardPorts: { ranges: [[20_000, 20_063]], folder },
  },
});

const BOUND =
  "const s = require('dgram').createSocket('udp4').bind(0, '127.0.0.1', () => console.log(s.address().port))";

/** The port of a program that is stopped: what comes is the system's, and costs nobody time here. */
async function udpPort(t: ExecutionContext): Promise<number> {
  const child = spawn(process.execPath, ['-e', BOUND], { stdio: ['ignore', 'pipe', 'ignore'] });
  t.teardown(() => child.kill('SIGKILL'));
  const [port] = (await once(child.stdout, 'data')) as [Buffer];
  child.kill('SIGSTOP');
  return Number(port);
}

for (const what of Object.keys(SURFACES)) {
  test.serial(`a neighbour's echoes beside a guest that ${what} stay within twice the quiet time`, async (t) => {
    const setup = await startNeighbours(t, channelOf(await udpPort(t), temporaryFolder(t)));
    const guest = await startHostile(t, what, setup.folder, HOSTILE_SURFACES);
    await requireGoodEchoes(t, setup, besideGuest(setup, guest), MEASURING);
    // Otherwise the guest has not disturbed anything.
    t.is(guest.exitCode, null);
  });
}
