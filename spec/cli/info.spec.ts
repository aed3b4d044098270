/** `vproxy info` and `vproxy wait --booted`: with two real processes, and with peers scripted by a spec. */
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { formatMachine } from '../../cli/commands/info.js';
import { encodeTime, encodeTold } from '../../lib/services/info/info-messages.js';
import { InfoService } from '../../lib/services/info/info-service.js';
import type { MachineSources } from '../../lib/services/info/this-machine.js';
import type { BootState, MachineInfo } from '../../lib/status/types.js';
import { systemClock } from '../../lib/util/clock.js';
import { temporaryFolder } from '../helpers/files.js';
import { describedMachine, SYSTEMD } from '../helpers/machine-sources.js';
import { processPair } from '../helpers/process-pair.js';
import { steeredPair } from '../helpers/proxies.js';
import { ESTABLISHED, runVproxy, spawnVproxy } from '../helpers/vproxy-process.js';

const json = (text: string): unknown => JSON.parse(text);

/** A side with a control socket, whose peer is the machine of `sources`. */
async function pairWith(t: ExecutionContext, sources: MachineSources) {
  const pair = await steeredPair(t);
  const service = new InfoService({ clock: systemClock, sources });
  pair.peer.proxy.serve('info', (stream) => service.serve(stream));
  return pair;
}

/** Sources of a machine whose systemd goes through these states, and stays in the last. */
function booting(t: ExecutionContext, ...states: string[]): MachineSources & { readonly asked: () => number } {
  let count = 0;
  return {
    ...describedMachine(t, { files: SYSTEMD }),
    asked: () => count,
    run: ([, word]) => {
      if (word === 'list-units') return Promise.resolve({ end: 0, stdout: 'a.service x\nb.service x\n', stderr: '' });
      const stdout = states[Math.min(count, states.length - 1)] ?? '';
      count += 1;
      return Promise.resolve({ end: 0, stdout, stderr: '' });
    },
  };
}

test.serial('a guest with --info describes its machine, and one without does not', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const pair = await processPair(t, { control: 'host', guest: ['--info', '--no-control'], hostPath: path });
  const run = (...words: string[]) => runVproxy(words, { env: pair.env });
  const shown = await run('info');
  t.is(shown.stderr, '');
  const facts = /^channel +default\nhost name +\S+\nsystem +.+\nkernel +Linux \S+ \S+\nboot id +[0-9a-f-]{36}\n/;
  t.regex(shown.stdout, facts);
  t.regex(shown.stdout, /\nmemory +[\d.]+ GB, [\d.]+ .?B available; swap .+\nclock +as here, ± [\d.]+ m?s\n/);
  t.regex(shown.stdout, /\n\nINTERFACE +MAC +ADDRESSES\n(?:.*\n)*lo +- +127\.0\.0\.1\/8/);
  t.like(json((await run('info', 'default', '--json')).stdout), { channel: 'default', kernel: { name: 'Linux' } });

  const from = pair.host.lines.length;
  await pair.guest.stop();
  spawnVproxy(t, ['-c', `unix-connect:${path}`, '--no-control']);
  await pair.host.waitForLine(ESTABLISHED, { from });
  const refused = await run('info');
  t.deepEqual([refused.code, refused.stdout], [69, '']);
  t.regex(refused.stderr, /^vproxy: error: the peer does not report on its machine: .*--info.*\n$/);
  t.like(await run('wait', '--booted', '--timeout', '5'), { code: 69, stderr: refused.stderr });
});

const WAIT = ['wait', '--booted'];

test.serial('wait --booted waits for a machine, and reports what failed and what it waits for', async (t) => {
  for (const [states, words, code, stderr] of [
    [['running'], WAIT, 0, ''],
    [['starting', 'starting', 'running'], WAIT, 0, ''],
    [['degraded'], WAIT, 1, 'vproxy: default: systemd is degraded: a.service, b.service failed\n'],
    [
      ['starting'],
      [...WAIT, '--timeout', '1.5'],
      69,
      'vproxy: error: the machine is not booted yet: systemd is starting\n',
    ],
    [['running'], ['wait', 'vm9', '--booted'], 69, 'vproxy: error: no channel "vm9"; available: default\n'],
    [['running'], ['info', 'vm9'], 69, 'vproxy: error: no channel "vm9"; available: default\n'],
  ] as const) {
    const sources = booting(t, ...states);
    const { run } = await pairWith(t, sources);
    t.deepEqual(await run(...words), { code, stdout: '', stderr });
    if (code === 0) t.is(sources.asked(), states.length);
  }
});

test.serial('programs get the state of a boot, and get it with the machine', async (t) => {
  const { run } = await pairWith(t, booting(t, 'running', 'degraded'));
  t.deepEqual(json((await run('wait', 'default', '--booted', '--json')).stdout), {
    ...{ channel: 'default', verdict: 'booted', remarks: [] },
    ...{ systemd: 'running', systemdError: null, failedUnits: [], cloudInit: null, cloudInitError: null },
  });
  const { stdout } = await run('info');
  t.regex(stdout, /^up +1h 02m, booted; systemd is degraded: a\.service, b\.service failed$/m);
});

test.serial('a program waits with waitForBoot, and learns what for', async (t) => {
  const { client } = await pairWith(t, booting(t, 'initializing', 'running'));
  const remarks: string[] = [];
  const { verdict } = await client.waitForBoot({ onBooting: (status) => remarks.push(...status.remarks) });
  t.is(verdict, 'booted');
  t.deepEqual(remarks, ['systemd is initializing']);
  t.like(await client.info(), { hostName: 'transient', boot: { systemd: 'running' } });
});

const BOOT: BootState = {
  systemd: 'unknown',
  systemdError: '\u001b[2Jno\nbus',
  failedUnits: [],
  cloudInit: null,
  cloudInitError: null,
};

test.serial('the answer of a hostile peer is escaped, and an invalid answer is rejected', async (t) => {
  const pair = await steeredPair(t);
  pair.peer.proxy.serve('info', (stream) => stream.write(encodeTold('boot', BOOT)));
  const { code, stderr } = await pair.run('wait', '--booted', '--timeout', '0.5');
  t.is(code, 69);
  t.is(stderr, 'vproxy: error: the machine is not booted yet: cannot query systemd: \\x1b[2Jno\\nbus\n');

  const other = await steeredPair(t);
  other.peer.proxy.serve('info', (stream) => {
    for (let count = 0; count < 5; count += 1) stream.write(encodeTime(Date.now()));
    stream.write(encodeTold('machine', { hostName: '\u001b[2J'.repeat(1000) }));
  });
  const refused = await other.run('info');
  t.is(refused.code, 76);
  t.regex(refused.stderr, /^vproxy: error: info: invalid answer: hostName: Too big.*\n$/);
});

const MACHINE: MachineInfo = {
  channel: 'vm1',
  hostName: 'a\u001b[2J\nb',
  os: null,
  kernel: { name: 'Linux', release: '6.1\u202e', architecture: 'x86_64' },
  bootId: null,
  uptimeS: 5,
  processors: 1,
  load: [0, 0, 0],
  memory: { totalBytes: 2e9, availableBytes: 1e9, swapTotalBytes: 0, swapFreeBytes: 0 },
  disks: [
    { mountPoint: '/\u001b', device: 'a\tb', type: 'ext4', sizeBytes: null, freeBytes: null, availableBytes: null },
  ],
  interfaces: [{ name: '\u009b', mac: null, addresses: ['192.0.2.1/24', '\u0007'] }],
  boot: { ...BOOT, systemd: 'degraded', failedUnits: ['\u001bx'] },
  clock: { offsetMs: -1234.5, uncertaintyMs: 1.25, roundTripMs: 0.5 },
};

test('texts of a machine are escaped, and its lines fit the terminal', (t) => {
  const lines = formatMachine(MACHINE, null);
  t.notRegex(lines.join(''), /[\u0000-\u001f\u007f-\u009f\u202e]/);
  t.true(lines.includes('host name  a\\x1b[2J\\nb'));
  t.true(lines.includes('clock      1.2 s behind, ± 1.25 ms'));
  t.true(formatMachine(MACHINE, 40).every((line) => line.length <= 40));
});
