/** How far a machine is with booting: what systemd and cloud-init say, and what that means for those who wait. */
import test from 'ava';
import { readBoot } from '../../lib/info/boot.js';
import { judgeBoot } from '../../lib/info/judge-boot.js';
import type { BootState, BootStatus } from '../../lib/status/types.js';
import { type DescribedMachine, describedMachine, SYSTEMD } from '../helpers/machine-sources.js';

const ASK = 'systemctl is-system-running';
const LIST = 'systemctl list-units --state=failed --plain --no-legend --full --no-pager';

const NOTHING: BootState = {
  systemd: null,
  systemdError: null,
  failedUnits: [],
  cloudInit: null,
  cloudInitError: null,
};

type Tools = NonNullable<DescribedMachine['tools']>;

const failing = (...units: string[]): Tools => ({
  [ASK]: { end: 1, stdout: 'degraded\n' },
  [LIST]: { stdout: units.map((unit) => `${unit} loaded failed failed Something of it\n`).join('') },
});

const cloudInit = (files: Readonly<Record<string, string>>) =>
  Object.fromEntries(Object.entries(files).map(([name, text]) => [`/run/cloud-init/${name}`, text]));
const done = (errors: readonly string[]) => JSON.stringify({ v1: { datasource: 'DataSourceNoCloud', errors } });
const stages = (recoverable: object) =>
  JSON.stringify({ v1: { stage: null, init: { errors: [], recoverable_errors: recoverable, start: 1, finished: 2 } } });

type Case = readonly [
  title: string,
  machine: DescribedMachine,
  state: Partial<BootState>,
  verdict: BootStatus['verdict'],
  remarks?: readonly string[],
];

/** A machine whose systemd says one word. */
const saying = (word: BootState['systemd'], verdict: BootStatus['verdict'], ...remarks: string[]): Case => [
  `systemd is ${word ?? ''}`,
  { files: SYSTEMD, tools: { [ASK]: { end: word === 'running' ? 0 : 1, stdout: `${word ?? ''}\n` } } },
  { systemd: word },
  verdict,
  remarks,
];

/** A machine whose systemd cannot be asked. */
const silent = (title: string, answer: Tools[string] | null, systemdError: string): Case => [
  title,
  { files: SYSTEMD, ...(answer && { tools: { [ASK]: answer } }) },
  { systemd: 'unknown', systemdError },
  'booting',
  [`systemd cannot be asked: ${systemdError}`],
];

const CASES: readonly Case[] = [
  ['without systemd and cloud-init whatever answers is booted', {}, {}, 'booted'],
  saying('running', 'booted'),
  saying('initializing', 'booting', 'systemd is initializing'),
  saying('starting', 'booting', 'systemd is starting'),
  saying('stopping', 'booting', 'systemd is stopping'),
  saying('maintenance', 'failed', 'systemd is in maintenance: its rescue or emergency mode'),
  silent('there is no D-Bus', { end: 1, stderr: 'Failed to connect to bus: No\n' }, 'Failed to connect to bus: No'),
  silent('systemctl prints something else', { end: 1, stdout: 'perfect\n' }, 'systemctl ended with 1'),
  silent('systemctl is missing', null, 'spawn systemctl ENOENT'),
  silent('systemctl hangs', { end: 'too-slow' }, 'systemctl did not answer in time'),
  [
    'systemd is degraded: the units that failed are named',
    { files: SYSTEMD, tools: failing('a.service', 'b\\x2dc.mount') },
    { systemd: 'degraded', failedUnits: ['a.service', 'b\\x2dc.mount'] },
    'failed',
    ['systemd is degraded: a.service, b\\\\x2dc.mount failed'],
  ],
  [
    'cloud-init is enabled, and has not begun',
    { files: cloudInit({ enabled: '' }) },
    { cloudInit: 'not-started' },
    'booting',
    ['cloud-init has not started'],
  ],
  ['cloud-init is disabled', { files: cloudInit({ disabled: '' }) }, { cloudInit: 'disabled' }, 'booted'],
  [
    'cloud-init is running',
    { files: cloudInit({ enabled: '', 'status.json': stages({}) }) },
    { cloudInit: 'running' },
    'booting',
    ['cloud-init is running'],
  ],
  [
    'cloud-init is done',
    { files: cloudInit({ 'status.json': stages({}), 'result.json': done([]) }) },
    { cloudInit: 'done' },
    'booted',
  ],
  [
    'cloud-init is done, with what it has recovered from',
    { files: cloudInit({ 'status.json': stages({ WARNING: ['old\nkey'] }), 'result.json': done([]) }) },
    { cloudInit: 'degraded', cloudInitError: 'old\nkey' },
    'booted',
    ['cloud-init has recovered from an error: old\\nkey'],
  ],
  [
    'cloud-init has failed',
    { files: cloudInit({ 'status.json': stages({}), 'result.json': done(['no disk', 'no net']) }) },
    { cloudInit: 'error', cloudInitError: 'no disk' },
    'failed',
    ['cloud-init has failed: no disk'],
  ],
  [
    'a service of cloud-init has failed, and there will be no result',
    { files: { ...SYSTEMD, ...cloudInit({ 'status.json': '{' }) }, tools: failing('cloud-final.service') },
    {
      ...{ systemd: 'degraded', failedUnits: ['cloud-final.service'] },
      ...{ cloudInit: 'error', cloudInitError: 'cloud-final.service failed' },
    },
    'failed',
    ['systemd is degraded: cloud-final.service failed', 'cloud-init has failed: cloud-final.service failed'],
  ],
  [
    'systemd is degraded while cloud-init is running: that is waited for',
    { files: { ...SYSTEMD, ...cloudInit({ 'status.json': stages({}) }) }, tools: failing('a.service') },
    { systemd: 'degraded', failedUnits: ['a.service'], cloudInit: 'running' },
    'booting',
    ['cloud-init is running'],
  ],
];

for (const [title, machine, state, verdict, remarks = []] of CASES) {
  test(title, async (t) => {
    const found = await readBoot(describedMachine(t, machine));
    t.deepEqual(found, { ...NOTHING, ...state });
    t.deepEqual(judgeBoot(found), { verdict, remarks });
  });
}

test('of failed units 32 are told, and a long reason is cut', async (t) => {
  const units = Array.from({ length: 40 }, (_, index) => `unit-${index}.service`);
  const { failedUnits } = await readBoot(describedMachine(t, { files: SYSTEMD, tools: failing(...units) }));
  t.deepEqual(failedUnits, units.slice(0, 32));
  const tools = { [ASK]: { end: 1, stderr: 'x'.repeat(1000) } };
  const { systemdError } = await readBoot(describedMachine(t, { files: SYSTEMD, tools }));
  t.is(systemdError, 'x'.repeat(256));
});
