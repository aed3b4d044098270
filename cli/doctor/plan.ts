/** Which checks a request leads to. */
import { parseChannel } from '../../lib/channel/address/address.js';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import type { Configuration } from '../../lib/settings/configuration.js';
import { formatHostPort } from '../../lib/util/addresses.js';
import { escapeText } from '../../lib/util/escape.js';
import { checkChannel } from './channel-checks.js';
import { checkControlFolder, checkControlSocket } from './checks/control-socket.js';
import { checkDenials } from './checks/denials.js';
import { checkForward } from './checks/forward.js';
import { checkKeyFile, keyIdOf } from './checks/key-file.js';
import { checkMachine } from './checks/machine-facts.js';
import { checkFiles } from './checks/open-files.js';
import { checkQemu } from './checks/qemu.js';
import { checkSession } from './checks/session.js';
import { checkTcpListen } from './checks/tcp-listen.js';
import { checkUnixListen } from './checks/unix-listen.js';
import { checkVirtioPorts } from './checks/virtio-ports.js';
import { type Finding, finding } from './finding.js';
import type { Machine } from './machine.js';
import { type Channel, planChannel } from './plan-channel.js';
import type { DoctorRequest } from './request.js';
import type { Job } from './run-jobs.js';
import { type ControlSocket, channelsOf, formatRunning, isHeld, type RunningChannel } from './running.js';

/** The checks of a request, in the order in which their findings are shown. */
export async function planJobs(machine: Machine, request: DoctorRequest): Promise<Job[]> {
  const control = await machine.control();
  const { configuration, keyFiles, problems, socket, isGeneral } = request;
  const channels = configuration?.channels ?? [];
  const isNamed = (path: string): boolean => isGeneral || path === socket;
  const running = channelsOf(control).filter(
    ({ vproxy, channel }) => isNamed(vproxy.path) || channels.some(({ address }) => address === channel.address),
  );
  // What is asked for has its own rows below.
  const others = running.filter(({ channel }) => !channels.some(({ address }) => address === channel.address));
  const files = new Set([...keyFiles, ...channels.flatMap((channel) => channel.keyFiles ?? [])]);
  return [
    { check: 'machine', subject: 'machine', run: () => checkMachine(machine) },
    ...(problems.length === 0
      ? []
      : [
          {
            check: 'config',
            subject: 'configuration',
            run: () => problems.map((text) => finding('config-invalid', text)),
          },
        ]),
    ...(isGeneral ? planMachine(machine) : []),
    ...planControl(machine, control, isGeneral, isNamed),
    ...channels.flatMap((channel) => planChannel(machine, channel)),
    ...(configuration === null ? [] : planProcess(machine, configuration)),
    ...others.flatMap((one) => planRunning(machine, one)),
    ...[...files].map((path) => ({
      check: 'key',
      subject: `key ${escapeText(path)}`,
      run: () => checkKeyFile(machine, { path }),
    })),
    ...planKeys(channels, running),
    ...running.map((one) => planSession(machine, one)),
    {
      check: 'denials',
      subject: 'logs',
      run: () => checkDenials(machine, { paths: pathsOf(channels, running, files) }),
    },
  ];
}

/** For who names nothing. */
function planMachine(machine: Machine): Job[] {
  return [
    { check: 'virtio', subject: 'machine', run: () => checkVirtioPorts(machine) },
    { check: 'qemu', subject: 'machine', run: () => checkQemu(machine) },
  ];
}

function planControl(
  machine: Machine,
  control: readonly ControlSocket[],
  isGeneral: boolean,
  isNamed: (path: string) => boolean,
): Job[] {
  return [
    ...(isGeneral
      ? [{ check: 'control', subject: 'control sockets', run: () => checkControlFolder(machine, control) }]
      : []),
    ...control
      .filter(({ path }) => isNamed(path))
      .map((one) => ({ check: 'control', subject: 'control socket', run: () => checkControlSocket(machine, one) })),
  ];
}

/** What the process as a whole listens on. */
function planProcess(machine: Machine, { metrics, control }: Configuration): Job[] {
  return [
    ...(metrics === undefined
      ? []
      : [
          {
            check: 'listener',
            subject: `--metrics ${formatHostPort(metrics)}`,
            run: () => checkTcpListen(machine, { address: metrics, isOurs: false }),
          },
        ]),
    ...(typeof control !== 'string'
      ? []
      : [
          {
            check: 'listener',
            subject: `--control ${escapeText(control)}`,
            run: () => lookAtControl(machine, control),
          },
        ]),
  ];
}

async function lookAtControl(machine: Machine, path: string): Promise<Finding[]> {
  const owner = (await machine.control()).find((socket) => socket.path === path)?.running ?? null;
  if (owner !== null) return [finding('held-by-vproxy', `${formatRunning(owner)} listens there`)];
  return checkUnixListen(machine, { path, isOurs: false });
}

/** What a vproxy that runs has, and nobody asked for by name. */
function planRunning(machine: Machine, { vproxy, channel }: RunningChannel): Job[] {
  const subject = `channel ${channel.label} of ${formatRunning(vproxy)}`;
  const { address, label, state } = channel;
  const ownPid = vproxy.status.process.pid;
  const parsed = parseChannel(address);
  const targets = vproxy.forwards.filter((forward) => forward.channel === label && forward.direction === 'incoming');
  // A channel that is up needs no look at what it is made of.
  const look: Job[] =
    state === 'established' || state === 'draining'
      ? []
      : [
          {
            check: parsed.kindName,
            subject,
            run: async () => (await checkChannel(machine, parsed, isHeld(state) ? ownPid : null)) ?? [],
          },
        ];
  return [
    ...look,
    ...targets.map((forward) => ({
      check: 'target',
      subject: `${subject} -i ${escapeText(forward.spec)}`,
      run: () => checkForward(machine, { forward: parseForwardSpec('incoming', forward.spec), isOurs: false }),
    })),
    { check: 'files', subject, run: () => checkFiles(machine, { pid: ownPid, streams: [parsed.traits.streams] }) },
  ];
}

const planSession = (machine: Machine, one: RunningChannel): Job => ({
  check: 'session',
  subject: `channel ${one.channel.label} of ${formatRunning(one.vproxy)}`,
  run: () => checkSession(machine, one),
});

/** Whether a session that is there was authenticated with a key of the files. */
function planKeys(channels: readonly Channel[], running: readonly RunningChannel[]): Job[] {
  return channels.flatMap(({ label, address, keyFiles = [] }) => {
    const key = running.find(({ channel }) => channel.address === address)?.channel.session?.key ?? null;
    if (key === null || keyFiles.length === 0) return [];
    const run = (): Finding[] => {
      const ids = keyFiles.map((path) => keyIdOf(path));
      if (ids.includes(key)) return [];
      return [
        finding(
          'key-differs',
          `the session has the key ${key}, and the files have ${ids.map((id) => id ?? 'none').join(', ')}`,
        ),
      ];
    };
    return [{ check: 'key', subject: `channel ${label}`, run }];
  });
}

/** Every path that a denial could be about. */
function pathsOf(
  channels: readonly Channel[],
  running: readonly RunningChannel[],
  files: ReadonlySet<string>,
): string[] {
  const addresses = [...channels.map(({ address }) => address), ...running.map(({ channel }) => channel.address)];
  const ends = channels.flatMap(({ forwards = [] }) =>
    forwards.map(({ endpoint }) => ('path' in endpoint ? endpoint.path : '')),
  );
  const paths = addresses.map((text) => parseChannel(text).address).flatMap((address) => pathIn(address));
  return [...new Set([...paths, ...ends, ...files])].filter((path) => path.startsWith('/'));
}

function pathIn(address: unknown): string[] {
  if (typeof address === 'string') return [address];
  return typeof address === 'object' && address !== null && 'path' in address ? [String(address.path)] : [];
}
