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

const running = (words: string): Tools => ({ [ASK]: { end: 1, stdout: `${words}\n` } });
const failing = (...units: string[]): Tools => ({
  [ASK]: { end: 1, stdout: 'degraded\n' },
  [LIST]: { stdout: units.map((unit) => `${unit} loaded failed failed Something of it\n`).join('') },
});

const cloudInit = (files: Readonly<Record<string, string>>) =>
  Object.fromEntries(Object.entries(files).map(([name, text]) => [`/run/cloud-init/${name}`, text]));
const done = (errors: readonly string[]) => JSON.stringify({ v1: { datasource: 'DataSourceNoCloud', errors } });
const stages = (recoverable: object) =>
  JSON.stringify({ v1: { stage: null, init: { errors: [], recoverable_errors: recoverable, start: 1, finished: 2 } } });

interface Case {
  readonly machine: DescribedMachine;
  readonly state: Partial<BootState>;
  readonly verdict: BootStatus['verdict'];
  readonly remarks?: readonly string[];
}

const CASES: Readonly<Record<string, Case>> = {
  'without systemd and cloud-init whatever answers is booted': { machine: {}, state: {}, verdict: 'booted' },
  'systemd is running': {
    machine: { files: SYSTEMD, tools: { [ASK]: { stdout: 'running\n' } } },
    state: { systemd: 'running' },
    verdict: 'booted',
  },
  'systemd is initializing': {
    machine: { files: SYSTEMD, tools: running('initializing') },
    state: { systemd: 'initializing' },
    verdict: 'booting',
    remarks: ['systemd is initializing'],
  },
  'systemd is starting': {
    machine: { files: SYSTEMD, tools: running('starting') },
    state: { systemd: 'starting' },
    verdict: 'booting',
    remarks: ['systemd is starting'],
  },
  'systemd ends, as before a reboot': {
    machine: { files: SYSTEMD, tools: running('stopping') },
    state: { systemd: 'stopping' },
    verdict: 'booting',
    remarks: ['systemd is stopping'],
  },
  'systemd is in its rescue mode': {
    machine: { files: SYSTEMD, tools: running('maintenance') },
    state: { systemd: 'maintenance' },
    verdict: 'failed',
    remarks: ['systemd is in maintenance: its rescue or emergency mode'],
  },
  'systemd is degraded: the units that failed are named': {
    machine: { files: SYSTEMD, tools: failing('a.service', 'b\\x2dc.mount') },
    state: { systemd: 'degraded', failedUnits: ['a.service', 'b\\x2dc.mount'] },
    verdict: 'failed',
    remarks: ['systemd is degraded: a.service, b\\\\x2dc.mount failed'],
  },
  'systemd cannot be asked, such as without D-Bus': {
    machine: { files: SYSTEMD, tools: { [ASK]: { end: 1, stderr: 'Failed to connect to bus: No such file\n' } } },
    state: { systemd: 'unknown', systemdError: 'Failed to connect to bus: No such file' },
    verdict: 'booting',
    remarks: ['systemd cannot be asked: Failed to connect to bus: No such file'],
  },
  'systemctl prints something else': {
    machine: { files: SYSTEMD, tools: { [ASK]: { end: 1, stdout: 'perfect\n' } } },
    state: { systemd: 'unknown', systemdError: 'systemctl ended with 1' },
    verdict: 'booting',
    remarks: ['systemd cannot be asked: systemctl ended with 1'],
  },
  'systemctl is missing': {
    machine: { files: SYSTEMD },
    state: { systemd: 'unknown', systemdError: 'spawn systemctl ENOENT' },
    verdict: 'booting',
    remarks: ['systemd cannot be asked: spawn systemctl ENOENT'],
  },
  'systemctl hangs': {
    machine: { files: SYSTEMD, tools: { [ASK]: { end: 'too-slow' } } },
    state: { systemd: 'unknown', systemdError: 'systemctl did not answer in time' },
    verdict: 'booting',
    remarks: ['systemd cannot be asked: systemctl did not answer in time'],
  },
  'cloud-init is enabled, and has not begun': {
    machine: { files: cloudInit({ enabled: '' }) },
    state: { cloudInit: 'not-started' },
    verdict: 'booting',
    remarks: ['cloud-init has not started'],
  },
  'cloud-init is disabled': {
    machine: { files: cloudInit({ disabled: '' }) },
    state: { cloudInit: 'disabled' },
    verdict: 'booted',
  },
  'cloud-init is running': {
    machine: { files: cloudInit({ enabled: '', 'status.json': stages({}) }) },
    state: { cloudInit: 'running' },
    verdict: 'booting',
    remarks: ['cloud-init is running'],
  },
  'cloud-init is done': {
    machine: { files: cloudInit({ 'status.json': stages({}), 'result.json': done([]) }) },
    state: { cloudInit: 'done' },
    verdict: 'booted',
  },
  'cloud-init is done, with what it has recovered from': {
    machine: { files: cloudInit({ 'status.json': stages({ WARNING: ['old\nkey'] }), 'result.json': done([]) }) },
    state: { cloudInit: 'degraded', cloudInitError: 'old\nkey' },
    verdict: 'booted',
    remarks: ['cloud-init has recovered from an error: old\\nkey'],
  },
  'cloud-init has failed': {
    machine: { files: cloudInit({ 'status.json': stages({}), 'result.json': done(['no disk', 'no net']) }) },
    state: { cloudInit: 'error', cloudInitError: 'no disk' },
    verdict: 'failed',
    remarks: ['cloud-init has failed: no disk'],
  },
  'a service of cloud-init has failed, and there will be no result': {
    machine: { files: { ...SYSTEMD, ...cloudInit({ 'status.json': '{' }) }, tools: failing('cloud-final.service') },
    state: {
      systemd: 'degraded',
      failedUnits: ['cloud-final.service'],
      cloudInit: 'error',
      cloudInitError: 'cloud-final.service failed',
    },
    verdict: 'failed',
    remarks: ['systemd is degraded: cloud-final.service failed', 'cloud-init has failed: cloud-final.service failed'],
  },
  'systemd is degraded while cloud-init is running: that is waited for': {
    machine: { files: { ...SYSTEMD, ...cloudInit({ 'status.json': stages({}) }) }, tools: failing('a.service') },
    state: { systemd: 'degraded', failedUnits: ['a.service'], cloudInit: 'running' },
    verdict: 'booting',
    remarks: ['cloud-init is running'],
  },
};

for (const [title, { machine, state, verdict, remarks = [] }] of Object.entries(CASES)) {
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
