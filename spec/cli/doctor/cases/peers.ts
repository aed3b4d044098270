/** Running vproxys, and their peers. */
import { chmodSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { basename, dirname, join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { runDoctor } from '../../../../cli/doctor/plan.js';
import { channelsOf, type RunningChannel } from '../../../../cli/doctor/running.js';
import { checkControlFolder, checkControlSocket } from '../../../../cli/doctor/subjects/control-socket.js';
import { planRivals } from '../../../../cli/doctor/subjects/rivals.js';
import { checkSession } from '../../../../cli/doctor/subjects/session.js';
import { temporaryFolder, writeKeyFile } from '../../../helpers/files.js';
import { type FakeMachine, fakeMachine } from '../../../helpers/machines.js';
import { localServer, type ProxySetup, steeredPair } from '../../../helpers/proxies.js';
import { ESTABLISHED, spawnVproxy, TAKING_CONTROL } from '../../../helpers/vproxy-process.js';
import { doctor, doctorWithoutRights, type FindingCase } from './case.js';
import { staleSocket } from './sockets.js';

/** Everything about one control socket. */
async function askSocket(t: ExecutionContext, path: string, machine: FakeMachine = {}) {
  const fake = fakeMachine(t, { controlSockets: [path], ...machine });
  return (await fake.control()).flatMap((socket) => checkControlSocket(fake, socket));
}

/** Everything about a folder of control sockets. */
async function askFolder(t: ExecutionContext, controlFolder: string | null) {
  const fake = fakeMachine(t, { controlFolder });
  return checkControlFolder(fake, await fake.control());
}

/** The channel of one of two proxies with a session; `change` puts it into a state that a test cannot wait for. */
async function session(
  t: ExecutionContext,
  setup: { readonly here?: ProxySetup; readonly peer?: ProxySetup },
  change: (channel: RunningChannel['channel']) => Partial<RunningChannel['channel']> = () => ({}),
) {
  const { control } = await steeredPair(t, setup);
  const machine = fakeMachine(t, { controlSockets: [control.path] });
  const [one] = channelsOf(await machine.control());
  if (one === undefined) throw new Error('the control socket has told of no channel');
  return checkSession(machine, { ...one, channel: { ...one.channel, ...change(one.channel) } });
}

const ended = (code: string, ageMs: number) => ({
  at: new Date().toISOString(),
  ageMs,
  code,
  message: `it was ${code}`,
});

/** The real command beside a real process that has no session. */
async function withoutSession(t: ExecutionContext, args: readonly string[], log: RegExp) {
  const control = join(temporaryFolder(t), 'control');
  const vproxy = spawnVproxy(t, [...args, '--control', control]);
  await Promise.all([vproxy.waitForLine(TAKING_CONTROL), vproxy.waitForLine(log)]);
  return doctor(t, ['--socket', control]);
}

/** Each finding about them. */
export const PEER_CASES: readonly FindingCase[] = [
  {
    id: 'vproxy-runs',
    when: 'one answers, with its name and number',
    says: /^vproxy host1 \(process \d+\) answers on /,
    find: async (t) => askSocket(t, (await steeredPair(t)).control.path),
  },
  { id: 'vproxy-none', when: 'none has a socket in the folder', find: (t) => askFolder(t, temporaryFolder(t)) },
  { id: 'vproxy-hidden', when: 'there is no folder', find: (t) => askFolder(t, null) },
  {
    id: 'control-stale',
    when: 'its process was killed',
    remedy: /^rm \//,
    async find(t) {
      const path = await staleSocket(t, join(temporaryFolder(t), 'vm1.sock'));
      const fake = fakeMachine(t, { controlFolder: dirname(path) });
      const sockets = await fake.control();
      t.deepEqual(
        sockets.map((socket) => basename(socket.path)),
        ['vm1.sock'],
      );
      return sockets.flatMap((socket) => checkControlSocket(fake, socket));
    },
  },
  { id: 'control-stale', when: 'there is no such socket', find: (t) => askSocket(t, join(temporaryFolder(t), 'none')) },
  {
    id: 'control-silent',
    when: 'whoever listens says nothing',
    async find(t) {
      const path = join(temporaryFolder(t), 's');
      await localServer(t, () => undefined, { path });
      return askSocket(t, path, { timeoutMs: 500 });
    },
  },
  {
    id: 'control-denied',
    when: 'the socket is another user’s',
    async find(t) {
      const { control } = await steeredPair(t);
      chmodSync(control.path, 0);
      return doctorWithoutRights(t, '--socket', control.path);
    },
  },
  {
    id: 'version-here',
    when: 'the program was upgraded meanwhile',
    says: /is vproxy test, and this program vproxy 9\.9\.9/,
    find: async (t) => askSocket(t, (await steeredPair(t)).control.path, { version: '9.9.9' }),
  },
  {
    id: 'name-twice',
    when: 'two have the same name',
    async find(t) {
      const folder = temporaryFolder(t);
      for (const side of ['a', 'b']) {
        const args = ['-c', `unix-listen:${folder}/${side}`, '--name', 'vm1', '--control', `${folder}/${side}.sock`];
        await spawnVproxy(t, args).waitForLine(TAKING_CONTROL);
      }
      return askFolder(t, folder);
    },
  },
  {
    id: 'session-up',
    when: 'the peer answers, with its version and its name',
    says: /with vproxy test called b \(protocol 1\), round trip \d/,
    find: (t) => session(t, {}),
  },
  {
    id: 'peer-silent',
    when: 'the peer stands still',
    async find(t) {
      const folder = temporaryFolder(t);
      const host = spawnVproxy(t, ['-c', `unix-listen:${folder}/c`, '--control', `${folder}/control`]);
      await host.waitForLine(TAKING_CONTROL);
      const guest = spawnVproxy(t, ['-c', `unix-connect:${folder}/c`]);
      await host.waitForLine(ESTABLISHED);
      guest.kill('SIGSTOP');
      t.teardown(() => guest.kill('SIGCONT'));
      return doctor(t, ['--socket', `${folder}/control`]);
    },
  },
  {
    id: 'session-suspended',
    when: 'the link is gone, and there is no other yet',
    says: /^a session for .*: session on .* lost its link; 0 streams wait for another$/,
    async find(t) {
      const folder = temporaryFolder(t);
      const channel = `${folder}/c,resume=60s`;
      const args = ['-c', `unix-listen:${channel}`, '--control', `${folder}/control`, '-v'];
      const host = spawnVproxy(t, args);
      await host.waitForLine(TAKING_CONTROL);
      const guest = spawnVproxy(t, ['-c', `unix-connect:${channel}`]);
      await host.waitForLine(/the peer offers/);
      guest.kill('SIGKILL');
      await host.waitForLine(/lost its link/);
      return doctor(t, ['--socket', `${folder}/control`]);
    },
  },
  {
    id: 'resume-one-sided',
    when: 'the peer has no resume=',
    says: /^resume= is set here, and not at the peer$/,
    find: (t) =>
      session(t, {}, ({ session: now }) => ({ session: now && { ...now, resume: { here: true, peer: false } } })),
  },
  {
    id: 'peer-version',
    when: 'it is another one',
    says: /vproxy 0\.0\.9\\x1b, and this side vproxy test/,
    find: (t) => session(t, { peer: { agent: 'vproxy 0.0.9\u001b' } }),
  },
  {
    id: 'peer-clock',
    when: 'it goes otherwise',
    says: /was 1h 01m behind the one here/,
    find: (t) =>
      session(t, {}, ({ session: now }) => {
        // Both sides are in one process here.
        t.true(Math.abs(now?.clockOffsetMs ?? Number.NaN) < 1000);
        return { session: now && { ...now, clockOffsetMs: -3_660_000 } };
      }),
  },
  {
    id: 'service-missing',
    when: 'a forward leads nowhere',
    says: /offers no ssh/,
    remedy: /-i ssh:/,
    find: (t) => session(t, { here: { outgoing: ['ssh:127.0.0.1:0'] } }),
  },
  {
    id: 'session-ended',
    when: 'one before was broken off',
    says: /it was desync \(desync\)/,
    find: (t) => session(t, {}, ({ history }) => ({ history: { ...history, recent: [ended('desync', 100_000)] } })),
  },
  {
    id: 'channel-contested',
    when: 'two processes dial the same socket, each by its own spelling',
    says: /^unix-connect:\S+ is a channel of vproxy host1 \(process \d+\), where it is [a-z-]+; and of vproxy, process \d+, where it is [a-z-]+$/,
    remedy: /^end all of them but one: vproxy stop --name host1, or vproxy stop --socket \/\S+\/b\.sock$/,
    async find(t) {
      const folder = temporaryFolder(t);
      const words = (name: string) => ['--control', join(folder, `${name}.sock`)];
      const listening = spawnVproxy(t, ['-c', `unix-listen:${folder}/c`]);
      const one = spawnVproxy(t, ['-c', `unix-connect:${folder}/c`, '--name', 'host1', ...words('a')]);
      const other = spawnVproxy(t, ['-c', 'unix-connect:./c', ...words('b')], { cwd: folder });
      await Promise.all([
        listening.waitForLine(ESTABLISHED),
        ...[one, other].map((side) => side.waitForLine(TAKING_CONTROL)),
      ]);
      const machine = fakeMachine(t, { controlFolder: folder, proc: '/proc', timeoutMs: 20_000 });
      const [running, ...more] = channelsOf(await machine.control());
      t.is(more.length, 1);
      // Who asks for one of them is told of the other.
      const jobs = planRivals(machine, channelsOf(await machine.control()), running === undefined ? [] : [running]);
      t.deepEqual(
        jobs.map(({ subject }) => subject),
        ['channel default'],
      );
      return (await Promise.all(jobs.map(async ({ run }) => run()))).flat();
    },
  },
  {
    id: 'session-unsteady',
    when: 'three in a row were short',
    says: /\(desync, flood\)/,
    find: (t) =>
      session(t, {}, ({ history }) => ({
        history: { ...history, recent: [ended('desync', 10), ended('flood', 20), ended('desync', 30)] },
      })),
  },
  {
    id: 'session-waiting',
    when: 'there is no socket yet, with what to do about its code',
    // It is retried all the time, and the look may fall into an attempt.
    says: /no session, (?:backing-off: .*|opening )\(channel-missing\)/,
    remedy: /start the VM/,
    find: (t) => withoutSession(t, ['-c', `unix-connect:${temporaryFolder(t)}/none`], /trying again/),
  },
  {
    id: 'session-unanswered',
    when: 'no vproxy is at the other end',
    async find(t) {
      const path = join(temporaryFolder(t), 's');
      const server = await localServer(t, () => undefined, { path });
      const control = join(temporaryFolder(t), 'control');
      const connected = new Promise<net.Socket>((resolve) => server.once('connection', resolve));
      const vproxy = spawnVproxy(t, ['-c', `unix-connect:${path}`, '--control', control]);
      await Promise.all([connected, vproxy.waitForLine(TAKING_CONTROL)]);
      return doctor(t, ['--socket', control]);
    },
  },
  {
    id: 'session-auth',
    when: 'the two have other keys',
    async find(t) {
      const folder = temporaryFolder(t);
      const path = join(folder, 'c');
      spawnVproxy(t, ['-c', `unix-listen:${path}`, '--key', writeKeyFile(folder, 'a', 'ab')]);
      const key = writeKeyFile(folder, 'b', 'cd');
      return withoutSession(t, ['-c', `unix-connect:${path}`, '--key', key], /auth-failed/);
    },
  },
  {
    id: 'session-failed',
    when: 'one of two channels is no socket',
    says: /not a socket/,
    async find(t) {
      const folder = temporaryFolder(t);
      writeFileSync(join(folder, 'file'), '');
      return withoutSession(
        t,
        ['-c', `a=unix-connect:${folder}/file`, '-c', `b=unix-listen:${folder}/b`],
        /not a socket/,
      );
    },
  },
  {
    id: 'ports-none',
    when: 'nothing is named, and the machine has none',
    async find(t) {
      const request = { configuration: null, keyFiles: [], problems: [], socket: null, isGeneral: true };
      return runDoctor(fakeMachine(t), request);
    },
  },
];
