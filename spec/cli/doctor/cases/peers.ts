/** Running vproxys, and their peers. */
import { once } from 'node:events';
import { chmodSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { runDoctor } from '../../../../cli/doctor/plan.js';
import { askControlSockets, channelsOf, type RunningChannel } from '../../../../cli/doctor/running.js';
import { checkControlFolder, checkControlSocket } from '../../../../cli/doctor/subjects/control-socket.js';
import { planRivals } from '../../../../cli/doctor/subjects/rivals.js';
import { checkSession } from '../../../../cli/doctor/subjects/session.js';
import { temporaryFolder, writeKeyFile } from '../../../helpers/files.js';
import { type FakeMachine, fakeMachine } from '../../../helpers/machines.js';
import { processPair } from '../../../helpers/process-pair.js';
import { localServer, type ProxySetup, steeredPair } from '../../../helpers/proxies.js';
import { SocketPeer } from '../../../helpers/socket-peer.js';
import { ESTABLISHED, spawnControlled, spawnVproxy, TAKING_CONTROL } from '../../../helpers/vproxy-process.js';
import { anywhere, doctor, doctorWithoutRights, finds } from './case.js';
import { staleSocket } from './sockets.js';

/** All findings about one control socket. */
async function askSocket(t: ExecutionContext, path: string, machine: FakeMachine = {}) {
  const fake = fakeMachine(t, { controlSockets: [path], ...machine });
  return (await fake.control()).flatMap((socket) => checkControlSocket(fake, socket));
}

/** All findings about a folder of control sockets. */
async function askFolder(t: ExecutionContext, controlFolder: string | null) {
  const fake = fakeMachine(t, { controlFolder });
  return checkControlFolder(fake, await fake.control());
}

type Channel = RunningChannel['channel'];

/** Checks a channel with a session; `change` puts it into a state that a test cannot wait for. */
export async function session(
  t: ExecutionContext,
  setup: { readonly here?: ProxySetup; readonly peer?: ProxySetup } = {},
  change: (channel: Channel) => Partial<Channel> = () => ({}),
) {
  const { control } = await steeredPair(t, setup);
  const machine = fakeMachine(t, { controlSockets: [control.path] });
  const [one] = channelsOf(await machine.control());
  if (one === undefined) throw new Error('the control socket reports no channel');
  return checkSession(machine, { ...one, channel: { ...one.channel, ...change(one.channel) } });
}

/** The same after earlier sessions: the code with which each ended, its age, and how long ago it ended. */
export const sessionAfter = (
  t: ExecutionContext,
  ...ended: readonly (readonly [code: string, ageMs: number, agoMs?: number])[]
) =>
  session(t, {}, ({ history }) => ({
    history: {
      ...history,
      recent: ended.map(([code, ageMs, agoMs = 0]) => ({
        ...{ at: new Date(Date.now() - agoMs).toISOString(), ageMs, code, message: `it was ${code}` },
      })),
    },
  }));

/** Runs the command beside a process without a session. */
async function withoutSession(t: ExecutionContext, args: readonly string[], happened: RegExp | Promise<unknown>) {
  const { vproxy, socket } = await spawnControlled(t, args);
  await (happened instanceof RegExp ? vproxy.waitForLine(happened) : happened);
  return doctor(t, ['--socket', socket]);
}

export const PEER_CASES = [
  finds('vproxy-runs', 'one answers', /^vproxy host1 \(process \d+\) answers on /, async (t) =>
    askSocket(t, (await steeredPair(t)).control.path),
  ),
  finds('vproxy-none', 'the folder has no sockets', (t) => askFolder(t, temporaryFolder(t))),
  finds('vproxy-hidden', 'there is no folder', (t) => askFolder(t, null)),
  finds('control-stale', 'its process was killed', { remedy: /^rm \// }, async (t) => {
    const path = await staleSocket(t, join(temporaryFolder(t), 'vm1.sock'));
    const fake = fakeMachine(t, { controlFolder: dirname(path) });
    const sockets = await fake.control();
    const names = sockets.map((socket) => basename(socket.path));
    t.deepEqual(names, ['vm1.sock']);
    return sockets.flatMap((socket) => checkControlSocket(fake, socket));
  }),
  finds('control-stale', 'the socket does not exist', { says: / does not exist$/, remedy: /^start vproxy$/ }, (t) =>
    askSocket(t, join(temporaryFolder(t), 'none')),
  ),
  finds('control-silent', 'the listener does not answer', async (t) => {
    const path = join(temporaryFolder(t), 's');
    await localServer(t, () => undefined, { path });
    return askSocket(t, path, { timeoutMs: 500 });
  }),
  finds('control-denied', 'the socket belongs to another user', async (t) => {
    const { control } = await steeredPair(t);
    chmodSync(control.path, 0);
    return doctorWithoutRights(t, '--socket', control.path);
  }),
  finds('node-slower', 'it runs on Node 20', /^vproxy host1 \(process \d+\) runs on Node 20\.19\.0$/, async (t) => {
    const [socket] = await askControlSockets(null, [(await steeredPair(t)).control.path], 5000);
    const running = socket?.running;
    if (!running) throw new Error('no answer');
    const old = { ...running.status, process: { ...running.status.process, node: '20.19.0' } };
    return checkControlSocket(fakeMachine(t), {
      path: '/run/old',
      running: { ...running, status: old },
      silence: null,
    });
  }),
  finds('version-here', 'it was upgraded meanwhile', /is vproxy test, this program is vproxy 9\.9\.9/, async (t) =>
    askSocket(t, (await steeredPair(t)).control.path, { version: '9.9.9' }),
  ),
  finds('name-twice', 'two have the same name', async (t) => {
    const folder = temporaryFolder(t);
    for (const side of ['a', 'b']) {
      const args = ['-c', `unix-listen:${folder}/${side}`, '--name', 'vm1', '--control', `${folder}/${side}.sock`];
      await spawnVproxy(t, args).waitForLine(TAKING_CONTROL);
    }
    return askFolder(t, folder);
  }),
  finds('session-up', 'the peer answers', /with vproxy test named b \(protocol 1\), round trip \d/, (t) => session(t)),
  finds('peer-silent', 'the peer is stopped', async (t) => {
    const { guest, sockets } = await processPair(t, { control: 'both' });
    guest.kill('SIGSTOP');
    t.teardown(() => guest.kill('SIGCONT'));
    return doctor(t, ['--socket', sockets[0]]);
  }),
  finds(
    'session-suspended',
    'the link is lost, and there is no other yet',
    /^a session for .*: session on .* lost; waiting to resume \(0 streams\)$/,
    async (t) => {
      const channel = `${temporaryFolder(t)}/c,resume=60s`;
      const { vproxy: host, socket } = await spawnControlled(t, ['-c', `unix-listen:${channel}`, '-v']);
      const guest = spawnVproxy(t, ['-c', `unix-connect:${channel}`]);
      await host.waitForLine(/the peer offers/);
      guest.kill('SIGKILL');
      await host.waitForLine(/lost; waiting to resume/);
      return doctor(t, ['--socket', socket]);
    },
  ),
  finds('resume-one-sided', 'the peer has no resume=', /^resume= is set here, but not at the peer$/, (t) =>
    session(t, {}, ({ session: now }) => ({ session: now && { ...now, resume: { here: true, peer: false } } })),
  ),
  finds('peer-version', 'it is another version', /vproxy 0\.0\.9\\x1b, this side is vproxy test/, (t) =>
    session(t, { peer: { agent: 'vproxy 0.0.9\u001b' } }),
  ),
  finds('peer-clock', 'it differs', /was 1h 01m behind the one here/, (t) =>
    session(t, {}, ({ session: now }) => {
      // Both sides are in one process here.
      t.true(Math.abs(now?.clockOffsetMs ?? Number.NaN) < 1000);
      return { session: now && { ...now, clockOffsetMs: -3_660_000 } };
    }),
  ),
  finds(
    'options-refused',
    'the peer says so',
    /^the peer: VPROXY_OPTIONS was refused; none are in effect$/,
    async (t) => {
      const env = { ...process.env, VPROXY_OPTIONS_REFUSED: 'none' };
      const { sockets } = await processPair(t, { control: 'both', guest: ['--info'], guestOptions: { env } });
      const [here, there] = await Promise.all(sockets.map((socket) => doctor(t, ['--socket', socket])));
      const own = there?.find(({ id }) => id === 'options-refused')?.message ?? '';
      t.regex(own, /^vproxy, process \d+: VPROXY_OPTIONS was refused; none are in effect$/);
      return here ?? [];
    },
  ),
  finds('service-missing', 'a forward leads nowhere', { says: /does not offer ssh/, remedy: /-i ssh:/ }, (t) =>
    session(t, { here: { outgoing: ['ssh:127.0.0.1:0'] } }),
  ),
  finds('session-ended', 'an earlier one was aborted', /it was desync \(desync\)/, (t) =>
    sessionAfter(t, ['desync', 100_000]),
  ),
  finds('session-unsteady', 'three in a row were short', /\(desync, flood\)/, (t) =>
    sessionAfter(t, ['desync', 10], ['flood', 20], ['desync', 30], ['desync', 1_000_000]),
  ),
  finds(
    'channel-contested',
    'two processes dial the same socket by different paths',
    {
      says: /^unix-connect:\S+ is a channel of vproxy host1 \(process \d+\), where it is [a-z-]+; and of vproxy, process \d+, where it is [a-z-]+$/,
      remedy: /^stop all of them but one: vproxy stop --name host1, or vproxy stop --socket \/\S+\/b\.sock$/,
    },
    async (t) => {
      const folder = temporaryFolder(t);
      const words = (name: string) => ['--control', join(folder, `${name}.sock`)];
      const listening = spawnVproxy(t, ['-c', `unix-listen:${folder}/c`]);
      const one = spawnVproxy(t, ['-c', `unix-connect:${folder}/c`, '--name', 'host1', ...words('a')]);
      const other = spawnVproxy(t, ['-c', `unix-connect:${folder}/./c`, ...words('b')]);
      const controlled = [one, other].map((side) => side.waitForLine(TAKING_CONTROL));
      await Promise.all([listening.waitForLine(ESTABLISHED), ...controlled]);
      const machine = fakeMachine(t, { controlFolder: folder, proc: '/proc', timeoutMs: 20_000 });
      const channels = channelsOf(await machine.control());
      t.is(channels.length, 2);
      // A check of one of them reports the other.
      const jobs = planRivals(channels, channels.slice(0, 1));
      const subjects = jobs.map(({ subject }) => subject);
      t.deepEqual(subjects, ['channel default']);
      return (await Promise.all(jobs.map(async ({ run }) => run()))).flat();
    },
  ),
  finds(
    'session-waiting',
    'there is no socket yet, with the remedy for its code',
    // It is retried all the time, and the look may fall into an attempt.
    { says: /no session, (?:backing-off: .*|opening )\(channel-missing\)/, remedy: /start the VM/ },
    (t) => withoutSession(t, ['-c', `unix-connect:${temporaryFolder(t)}/none`], /retrying/),
  ),
  finds('session-unanswered', 'no vproxy is at the other end', async (t) => {
    const path = join(temporaryFolder(t), 's');
    const server = await localServer(t, () => undefined, { path });
    return withoutSession(t, ['-c', `unix-connect:${path}`], once(server, 'connection'));
  }),
  finds('session-unsteady', 'its codes are properties of objects', { remedy: /^compare vproxy events/ }, (t) =>
    sessionAfter(t, ['constructor', 10], ['toString', 20], ['__proto__', 30]),
  ),
  anywhere('auth-failed', 'the two have different keys', async (t) => {
    const folder = temporaryFolder(t);
    const [path, one, other] = [join(folder, 'c'), writeKeyFile(folder, 'a', 'ab'), writeKeyFile(folder, 'b', 'cd')];
    spawnVproxy(t, ['-c', `unix-listen:${path}`, '--key', one]);
    const [unlike] = (
      await withoutSession(t, ['-c', `unix-connect:${path},tls=psk`, '--key', one], /auth-failed/)
    ).filter(({ id }) => id === 'auth-failed');
    t.regex(unlike?.message ?? '', /; set tls= on the channel at both ends \(auth-failed\)$/);
    t.is(unlike?.remedy, null);
    return withoutSession(t, ['-c', `unix-connect:${path}`, '--key', other], /auth-failed/);
  }),
  anywhere('version-mismatch', 'the peer is another version', /^no session, opening: .* at the peer \(v/, async (t) => {
    const path = join(temporaryFolder(t), 'c');
    const { vproxy, socket } = await spawnControlled(t, ['-c', `unix-listen:${path}`]);
    for (const isNews of [true, false]) {
      const peer = new SocketPeer({ path });
      t.teardown(() => peer.close());
      peer.write(peer.hello({ ack: await peer.otherNonce(), version: { min: 2, max: 2 } }));
      await peer.seen(/GOAWAY/);
      if (isNews) await vproxy.waitForLine(/warning: .*; upgrade the older side \(version-mismatch\)$/);
    }
    t.is(vproxy.lines.filter((line) => line.includes('version-mismatch')).length, 1);
    return doctor(t, ['--socket', socket]);
  }),
  finds('session-failed', 'one of two channels is not a socket', /not a socket/, async (t) => {
    const folder = temporaryFolder(t);
    writeFileSync(join(folder, 'file'), '');
    const channels = ['-c', `a=unix-connect:${folder}/file`, '-c', `b=unix-listen:${folder}/b`];
    return withoutSession(t, channels, /not a socket/);
  }),
  finds('ports-none', 'nothing is named, and the machine has no ports', async (t) => {
    const request = { configuration: null, keyFiles: [], problems: [], socket: null, isGeneral: true };
    return runDoctor(fakeMachine(t), request);
  }),
];
