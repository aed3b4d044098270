/** `vproxy upgrade` during the end of a process, during a reload, and in a service: afterwards one process serves, or none. */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { connectControl } from '../../lib/control/client/client.js';
import { openDatagramManager } from '../helpers/datagram-manager.js';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { eventually, within } from '../helpers/time.js';
import { isBlocked, runUpgrade, upgrade } from '../helpers/upgrades.js';
import { isRunning, type RunResult, spawnControlled } from '../helpers/vproxy-process.js';

const VPROXY = join(PROJECT_ROOT, 'dist/program/vproxy.cjs');

type Scene = Awaited<ReturnType<typeof makeScene>>;

/** A process and its upgrade: the running processes, and the successor, or its program. */
async function makeScene(t: ExecutionContext, env: Readonly<Record<string, string>> = {}) {
  const folder = temporaryFolder(t);
  const config = join(folder, 'vproxy.toml');
  writeFileSync(config, `[channels.vm1]\naddress = "unix-listen:${folder}/channel.sock"\nwait = "1h"\n`);
  const processes = () => marked(`SCENE=${folder}`);
  const { vproxy, socket } = await spawnControlled(t, ['--config', config], { env: { ...env, SCENE: folder } });
  // Called before the end of `vproxy` is awaited: a successor holds its log open.
  t.teardown(() => processes().forEach((pid) => process.kill(pid, 'SIGKILL')));
  const successor = () => processes().find((pid) => pid !== vproxy.pid) ?? 0;
  return { folder, socket, client: connectControl(socket), vproxy, processes, successor };
}

/** The processes that have this variable in their environment. */
function marked(variable: string): number[] {
  const pids = readdirSync('/proc').map(Number);
  return pids.filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(variable) && isRunning(pid);
    } catch {
      return false;
    }
  });
}

/** Writes a program that is, or starts, a successor. */
function program({ folder }: Scene, text: string): string[] {
  const path = join(folder, 'program');
  writeFileSync(path, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  return ['--program', path];
}

// The moments of an upgrade: each has its result, and a function that lets it continue.

interface Moment {
  readonly result: Promise<RunResult>;
  readonly release: () => void;
}

/** The successor has not loaded. */
async function loading(scene: Scene): Promise<Moment> {
  const gate = join(scene.folder, 'gate');
  writeFileSync(gate, '');
  const words = program(scene, `while [ -e ${gate} ]; do sleep 0.02; done; exec ${process.execPath} ${VPROXY} "$@"`);
  const result = runUpgrade(scene.socket, words);
  await eventually(() => scene.successor() > 0, { what: 'the program' });
  return { result, release: () => rmSync(gate) };
}

/** Something cannot be handed over: a request whose body waits, as it does, for a session. */
async function waiting(scene: Scene): Promise<Moment> {
  const target = { socketPath: scene.socket, method: 'PUT', path: '/v1/files?path=x' };
  const obstacle = http.request({ ...target, agent: false }).on('error', () => undefined);
  obstacle.write('some of it');
  const result = runUpgrade(scene.socket, ['--wait', '60']);
  // It has checked the options, and waits for the hand-over.
  await scene.vproxy.waitForLine(/the upgrade waits for: /);
  await eventually(() => isBlocked(scene.successor()), { what: 'a successor' });
  return { result, release: () => obstacle.destroy() };
}

/** The predecessor has handed over everything, and does nothing else. */
async function inTheTurn(scene: Scene): Promise<Moment> {
  const { result, release } = await waiting(scene);
  const successor = scene.successor();
  process.kill(successor, 'SIGSTOP');
  release();
  await eventually(() => isBlocked(scene.vproxy.pid), { what: 'the turn' });
  return { result, release: () => isRunning(successor) && process.kill(successor, 'SIGCONT') };
}

/** Whether a process has a handler for SIGHUP, the first of the signals. */
const catchesHangUp = (pid: number): boolean =>
  /^SigCgt:\s+[0-9a-f]*[13579bdf]$/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));

// Events during an upgrade, and their expected outcome.

type Deed = (t: ExecutionContext, scene: Scene, moment: Moment) => Promise<void>;

const MS = 30_000;

/** One process runs, and answers. */
async function oneServes(t: ExecutionContext, { processes, client }: Scene): Promise<number> {
  await eventually(() => processes().length === 1, { what: 'a single process', timeoutMs: MS });
  const { pid } = (await within(MS, 'an answer', client.status())).process;
  t.deepEqual(processes(), [pid]);
  return pid;
}

const endsBy =
  (ask: (scene: Scene) => unknown): Deed =>
  async (_t, scene, { result, release }) => {
    await ask(scene);
    release();
    await eventually(() => scene.processes().length === 0, { what: 'the end of all processes', timeoutMs: MS });
    await within(MS, 'the answer', result);
  };

const signalled = (signal: NodeJS.Signals): Deed => endsBy(({ vproxy }) => vproxy.kill(signal));

const reloads: Deed = async (t, scene, { result, release }) => {
  scene.vproxy.kill('SIGHUP');
  release();
  await scene.vproxy.waitForLine(/reloaded: no changes/);
  t.is((await within(MS, 'the answer', result)).code, 0);
  t.not(await oneServes(t, scene), scene.vproxy.pid);
};

const losesSuccessor: Deed = async (t, scene, { result, release }) => {
  process.kill(scene.successor(), 'SIGKILL');
  release();
  t.is((await within(MS, 'the answer', result)).code, 1);
  t.is(await oneServes(t, scene), scene.vproxy.pid);
};

for (const [when, moment] of Object.entries({ loading, waiting, inTheTurn })) {
  test.serial(`${when}: the end of the process ends its upgrade, a reload is done, and one serves`, async (t) => {
    for (const deed of [signalled('SIGTERM'), signalled('SIGKILL'), reloads, losesSuccessor]) {
      const scene = await makeScene(t);
      await deed(t, scene, await moment(scene));
    }
  });
}

test.serial('a waiting upgrade is ended by requests to the control socket, and rejects another upgrade', async (t) => {
  const deeds = [endsBy(({ client }) => client.stop()), endsBy(({ client }) => client.drain({ timeoutS: 5 }))];
  for (const deed of deeds) {
    const scene = await makeScene(t);
    const moment = await waiting(scene);
    t.regex((await runUpgrade(scene.socket)).stderr, /another upgrade is in progress/);
    await deed(t, scene, moment);
    t.regex((await moment.result).stderr, /this process is shutting down|closed the connection without an answer/);
  }
});

test.serial('a queued signal does not end the successor: it catches signals before its PID is announced', async (t) => {
  const scene = await makeScene(t);
  const { result, release } = await inTheTurn(scene);
  scene.vproxy.kill('SIGSTOP');
  const successor = scene.successor();
  release();
  await eventually(() => catchesHangUp(successor), { what: 'a handler' });
  process.kill(successor, 'SIGHUP');
  scene.vproxy.kill('SIGCONT');
  t.is((await within(MS, 'the answer', result)).code, 0);
  await scene.vproxy.waitForLine(/reloaded: no changes/);
  t.is(await oneServes(t, scene), successor);
});

test.serial('a predecessor exits at once: connections during a normal exit of Node would be lost', async (t) => {
  const coverage = temporaryFolder(t);
  const scene = await makeScene(t, { NODE_V8_COVERAGE: coverage });
  t.is((await runUpgrade(scene.socket)).code, 0);
  const successor = await oneServes(t, scene);
  // Node writes it at a normal exit.
  t.deepEqual(readdirSync(coverage), []);
  process.kill(successor, 'SIGTERM');
  await eventually(() => !isRunning(successor), { what: 'the end of the successor' });
  t.is(readdirSync(coverage).length, 1);
});

/** In a service the successor is a child of the service manager, which is notified. */
const inService = (address: string) => ({
  ...{ NOTIFY_SOCKET: address, WATCHDOG_USEC: '0', JOURNAL_STREAM: '' },
  // Without systemd-notify, which would be a further process of the scene.
  PATH: '/nonexistent',
});

test.serial('a successor that does not answer is ended after 30 s, and the process continues', async (t) => {
  const manager = await openDatagramManager(t);
  const silent = async (env: Readonly<Record<string, string>>): Promise<void> => {
    const scene = await makeScene(t, env);
    const { code, stderr } = await runUpgrade(scene.socket, program(scene, 'exec /bin/sleep 1000'));
    t.is(code, 1);
    t.regex(stderr, /successor \S+ did not answer within 30 s/);
    t.is(await oneServes(t, scene), scene.vproxy.pid);
  };
  await Promise.all([silent({}), silent(inService(manager.address))]);
});

test.serial('the service manager is notified of a successor that serves; otherwise nothing changes', async (t) => {
  const lonely = await makeScene(t, inService(`@${temporaryFolder(t)}`));
  // It cannot end what its program started.
  const untold = program(lonely, `${process.execPath} ${VPROXY} "$@"\ntrue`);
  t.is((await runUpgrade(lonely.socket, untold)).code, 1);
  t.is(await oneServes(t, lonely), lonely.vproxy.pid);

  const manager = await openDatagramManager(t);
  const scene = await makeScene(t, inService(manager.address));
  const mainProcesses = () =>
    manager.receive().flatMap(({ facts }) => facts.filter((fact) => fact.startsWith('MAINPID=')));
  const parent = join(scene.folder, 'parent');
  const { code, stderr } = await runUpgrade(scene.socket, program(scene, `echo $PPID > ${parent}; exit 3`));
  t.is(code, 1);
  t.regex(stderr, /successor \S+ exited$/m);
  const pidOfParent = Number(readFileSync(parent, 'utf8'));
  t.true(pidOfParent > 0 && pidOfParent !== scene.vproxy.pid);
  t.deepEqual(mainProcesses(), []);
  t.is(await oneServes(t, scene), scene.vproxy.pid);

  for (let round = 0; round < 2; round += 1) {
    const { pid } = await upgrade(t, scene.socket);
    t.deepEqual(mainProcesses(), [`MAINPID=${pid}`]);
    t.is(await oneServes(t, scene), pid);
  }
  // It writes to the same log as its predecessor.
  await scene.vproxy.waitForLine(/handed over/);
});
