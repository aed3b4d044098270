/** The service `freeze`: what is frozen, hooks, held writes, and hosts that break the rules; the freezer is replaced. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import test, { type ExecutionContext } from 'ava';
import { chooseFileSystems } from '../../lib/services/freeze/file-systems.js';
import { FreezeCall } from '../../lib/services/freeze/freeze-call.js';
import { encodeFreezeRecord, FREEZE_KIND } from '../../lib/services/freeze/freeze-messages.js';
import { type Frozen, freeze } from '../../lib/services/freeze/freezer.js';
import { writesAllowed } from '../../lib/system/files/frozen-writes.js';
import { readText } from '../../lib/system/files/optional-files.js';
import { parseMounts } from '../../lib/system/mounts.js';
import { listPids, statOf } from '../../lib/system/proc/proc.js';
import { encodeRecord, encodeRecordHeader } from '../../lib/util/bytes/records.js';
import { resettingPair } from '../helpers/channel-pair.js';
import { temporaryFolder } from '../helpers/files.js';
import { freezableMachine, MOUNTS } from '../helpers/freezable-machine.js';
import { eventually } from '../helpers/time.js';

test('file systems that can be frozen and written are chosen once each, the newest first, but those on files before', (t) => {
  const chosen = (paths: readonly string[]) => chooseFileSystems(MOUNTS, paths).map(({ mountPoint }) => mountPoint);
  t.deepEqual(chosen([]), ['/srv/a b', '/srv', '/']);
  t.deepEqual(chosen(['/srv/', '/srv/a b']), ['/srv/a b', '/srv']);
  t.throws(() => chooseFileSystems(MOUNTS, ['/srv/none']), { message: '/srv/none: not a mount point' });
  t.throws(() => chooseFileSystems('', []), { message: 'no file system here can be frozen' });
});

type Machine = ReturnType<typeof freezableMachine>;

function call({ clock, service }: Machine, { paths = [] as string[], signal = new AbortController().signal } = {}) {
  const [near, far] = resettingPair();
  service.serve(far);
  return FreezeCall.begin(near, { paths, forMs: 10_000 }, { clock, signal });
}

const isHeld = (): Promise<boolean> =>
  Promise.race([
    writesAllowed().then(() => false),
    Promise.resolve()
      .then(() => Promise.resolve())
      .then(() => Promise.resolve(true)),
  ]);

test.serial(
  'R-FREEZE-4: frozen until the host asks, with writes of this process held, and hooks around it',
  async (t) => {
    const vm = freezableMachine(t);
    const out = join(vm.hooks, 'out.txt');
    writeFileSync(join(vm.hooks, '10-database'), `#!/bin/sh\necho "$1" >> ${out}\n`, { mode: 0o755 });
    const frozen = await call(vm, { paths: ['/srv'] });
    t.deepEqual([frozen.paths, vm.calls, readFileSync(out, 'utf8')], [['/srv'], [[['/srv'], 10_000]], 'freeze\n']);
    t.true(await isHeld());
    vm.clock.advance(3200);
    t.deepEqual(await frozen.thaw(), { heldMs: 3200, cause: 'asked' });
    t.false(await isHeld());
    t.is(readFileSync(out, 'utf8'), 'freeze\nthaw\n');
    t.deepEqual(
      vm.messages().filter((line) => !line.startsWith('hook')),
      ['freezing: freezing /srv for at most 10s', 'thawed: thawed file systems after 3.2 s (asked)'],
    );
  },
);

test.serial('R-FREEZE-3: a thaw whose time was over is told, and logged as a warning', async (t) => {
  const vm = freezableMachine(t);
  const [near, far] = resettingPair();
  vm.service.serve(far);
  const { signal } = new AbortController();
  const frozen = await FreezeCall.begin(near, { paths: [], forMs: 10_000 }, { clock: vm.clock, signal });
  vm.clock.advance(10_000);
  vm.thawed.resolve({ cause: 'time', failure: null });
  // Also if nobody asks.
  await eventually(() => near.closed && far.closed);
  t.deepEqual(await frozen.thaw(), { heldMs: 10_000, cause: 'time' });
  t.is(vm.messages().at(-1), 'thawed: thawed file systems after 10.0 s (time ran out)');
});

test.serial('R-FREEZE-3: a thaw that failed is told, and logged, with its reason', async (t) => {
  const vm = freezableMachine(t);
  const frozen = await call(vm, { paths: ['/srv'] });
  vm.clock.advance(1000);
  vm.thawed.resolve({ cause: 'asked', failure: '/srv: still frozen: Input/output error' });
  await t.throwsAsync(frozen.thaw(), { code: 'freeze-failed', message: '/srv: still frozen: Input/output error' });
  t.is(
    vm.messages().at(-1),
    'freeze-failed: freeze of file systems failed after 1.0 s: /srv: still frozen: Input/output error',
  );
});

test.serial('a stream that was opened while freezes were allowed is refused once they are not', async (t) => {
  const vm = freezableMachine(t);
  const [near, far] = resettingPair();
  vm.service.serve(far);
  vm.service.allow(null);
  const { signal } = new AbortController();
  const frozen = FreezeCall.begin(near, { paths: [], forMs: 10_000 }, { clock: vm.clock, signal });
  await t.throwsAsync(frozen, { code: 'denied', message: 'service freeze is no longer allowed' });
  t.deepEqual(vm.messages(), []);
});

test.serial('a second freeze is refused, whatever the channel; a host that goes away thaws', async (t) => {
  const [vm, other] = [freezableMachine(t), freezableMachine(t)];
  const giving = new AbortController();
  const [near, far] = resettingPair();
  vm.service.serve(far);
  await FreezeCall.begin(near, { paths: [], forMs: 10_000 }, { clock: vm.clock, signal: giving.signal });
  await t.throwsAsync(call(other), {
    code: 'freeze-failed',
    message: 'file systems are frozen already; vproxy thaw ends that',
  });
  near.destroy();
  await eventually(() => vm.messages().some((line) => line.endsWith('(the stream ended)')));
  t.false(await isHeld());
  await call(other).then((frozen) => frozen.thaw());
});

test.serial('after a failure nothing is frozen or held, and hooks are undone', async (t) => {
  const vm = freezableMachine(t);
  const out = join(vm.hooks, 'out.txt');
  const path = join(vm.hooks, '10-database');
  const hook = (text: string) => writeFileSync(path, `#!/bin/sh\necho "$1" >> ${out}\n${text}\n`, { mode: 0o755 });
  hook('');
  vm.state.failure = 'fsfreeze: /srv: Device or resource busy';
  await t.throwsAsync(call(vm), { code: 'freeze-failed', message: 'fsfreeze: /srv: Device or resource busy' });
  hook('echo locked >&2; exit 1');
  await t.throwsAsync(call(vm), { code: 'freeze-failed', message: `${path}: locked` });
  await t.throwsAsync(call(vm, { paths: ['/none'] }), { message: '/none: not a mount point' });
  t.deepEqual([readFileSync(out, 'utf8'), vm.calls, await isHeld()], ['freeze\nthaw\nfreeze\nthaw\n', [], false]);
});

for (const [what, bytes] of [
  ['another first record', encodeRecord(7, '{}')],
  ['a request that lasts too long', encodeFreezeRecord(FREEZE_KIND.FREEZE, { paths: [], forMs: 60_001 })],
  ['a request with a relative path', encodeFreezeRecord(FREEZE_KIND.FREEZE, { paths: ['srv'], forMs: 1000 })],
  ['too many paths', encodeFreezeRecord(FREEZE_KIND.FREEZE, { paths: Array<string>(65).fill('/'), forMs: 1000 })],
  ['half a surrogate pair', encodeRecord(FREEZE_KIND.FREEZE, '{"version":1,"paths":["/\\ud800"],"forMs":1000}')],
  ['another version', encodeRecord(FREEZE_KIND.FREEZE, '{"version":2,"paths":[],"forMs":1000}')],
  ['a record that is too long', encodeRecordHeader(FREEZE_KIND.FREEZE, 65_537)],
] as const) {
  test(`a host that sends ${what} loses the stream, and nothing is frozen`, async (t) => {
    const vm = freezableMachine(t);
    const [near, far] = resettingPair();
    vm.service.serve(far);
    near
      .on('error', () => undefined)
      .resume()
      .write(bytes);
    t.is(((await closed(far)) as { code?: string } | null)?.code, 'protocol-error');
    t.deepEqual(vm.calls, []);
  });
}

test('a host that requests nothing loses the stream', async (t) => {
  const vm = freezableMachine(t);
  const [near, far] = resettingPair();
  vm.service.serve(far);
  near.on('error', () => undefined).resume();
  vm.clock.advance(10_000);
  t.is(((await closed(far)) as { code?: string } | null)?.code, 'stalled');
});

/** Freezes `/` with this program in place of fsfreeze(8). */
function freezeWith(t: ExecutionContext, folder: string, program: string): Promise<Frozen> {
  writeFileSync(join(folder, 'fsfreeze'), program, { mode: 0o755 });
  const path = process.env['PATH'];
  t.teardown(() => (process.env['PATH'] = path));
  process.env['PATH'] = `${folder}:${path}`;
  const mounts = parseMounts(readFileSync('/proc/self/mountinfo', 'utf8'));
  return freeze(mounts.filter(({ mountPoint }) => mountPoint === '/').slice(-1), 10_000);
}

for (const [name, signal] of [
  ['its first process', 'SIGKILL'],
  ['its first process', 'SIGTERM'],
  ['sleep', 'SIGTERM'],
  ['cat', 'SIGKILL'],
] as const) {
  test.serial(`${name} gets ${signal}: the rest of what froze thaws, and nobody says that all went well`, async (t) => {
    const folder = temporaryFolder(t);
    const program = `#!/bin/sh\ncut -d ' ' -f 6 "/proc/$$/stat" > ${folder}/session\n`;
    const frozen = await freezeWith(t, folder, program);
    const session = readFileSync(join(folder, 'session'), 'utf8').trim();
    const processes = () => listPids('/proc').filter((pid) => statOf('/proc', pid)[3] === session);
    const find = () => processes().find((pid) => readText(`/proc/${pid}/comm`) === `${name}\n`);
    // The first one must sleep: a signal before its `wait` would not end that.
    const isWaiting = () => statOf('/proc', Number(session))[0] === 'S';
    await eventually(() => (name === 'its first process' ? isWaiting() : find() !== undefined));
    process.kill(find() ?? Number(session), signal);
    t.is((await frozen.thawed).failure, 'the process that froze them was killed; all are thawed');
    // The watch looks for its parent once a second.
    await eventually(() => processes().length === 0);
  });
}

test.serial(
  'what froze may be killed after it said why it thaws: that is told, and what is left is thawed',
  async (t) => {
    const folder = temporaryFolder(t);
    // In place of fsfreeze(8): the first thaw succeeds, and kills its process group before that can say so; another one that the
    // group has begun meanwhile waits for its end.
    const program = `#!/bin/sh
case $1 in --freeze) exit ;; esac
session=$(cut -d ' ' -f 6 "/proc/$$/stat")
if mkdir ${folder}/killed 2> /dev/null; then
  echo "$session" > ${folder}/killed/session
  kill -KILL 0
fi
until [ -s ${folder}/killed/session ]; do sleep 0.01; done
if [ "$(cat ${folder}/killed/session)" = "$session" ]; then sleep 60; fi
echo 'fsfreeze: unfreeze failed: Invalid argument'
exit 1
`;
    const frozen = await freezeWith(t, folder, program);
    frozen.thaw();
    t.deepEqual(await frozen.thawed, {
      cause: 'asked',
      failure: 'the process that froze them was killed; all are thawed',
    });
  },
);

const closed = async (stream: Duplex): Promise<Error | null> => {
  await eventually(() => stream.destroyed && stream.closed);
  return stream.errored;
};
