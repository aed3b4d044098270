/** Plans the checks of a request, and runs them. */
import type { ChannelAddress } from '../../lib/channel/address/address.js';
import { describeForward, type ForwardSpec, parseForwardSpec } from '../../lib/forward/spec.js';
import { findObstacles } from '../../lib/proxy/channel/check-channel.js';
import { egressOf, resolveEgress } from '../../lib/proxy/egress/definitions.js';
import { describeEgressRules } from '../../lib/proxy/egress/test-egress.js';
import type { Configuration } from '../../lib/settings/configuration.js';
import type { EgressStatus, ForwardStatus } from '../../lib/status/types.js';
import { formatHostPort, type HostPort } from '../../lib/util/addresses/host-port.js';
import { escapeText } from '../../lib/util/escape.js';
import type { Diagnosis } from './diagnosis.js';
import type { Finding } from './findings.js';
import { type Job, job, runJobs } from './jobs.js';
import { checkTcpListen, checkUnixListen } from './locations/listener.js';
import { checkVirtioPorts } from './locations/virtio-port.js';
import type { Machine } from './machine.js';
import type { DoctorRequest } from './request.js';
import {
  type ControlSocket,
  channelsOf,
  formatRunning,
  heldBy,
  isHeld,
  type RunningChannel,
  type RunningVproxy,
} from './running.js';
import {
  type Channel,
  checkAskedChannel,
  checkChannel,
  describeObstacle,
  describeProblems,
} from './subjects/channel.js';
import { checkControlFolder, checkControlSocket } from './subjects/control-socket.js';
import { checkDenials } from './subjects/denials.js';
import { checkEgress, checkProxySettings } from './subjects/egress.js';
import { checkForward } from './subjects/forward.js';
import { checkKeyFile, checkSessionKey } from './subjects/key-file.js';
import { checkFiles, checkMachine, checkQemu, checkTerminals } from './subjects/machine-facts.js';
import { planRivals } from './subjects/rivals.js';
import { checkSession } from './subjects/session.js';
import { askedBuffer, checkBuffer } from './subjects/socket-buffer.js';

/** Resolves with all findings in order, within 2.5 times the machine's `timeoutMs`: the control sockets are queried first. */
export async function runDoctor(machine: Machine, request: DoctorRequest): Promise<Diagnosis[]> {
  return runJobs(await planJobs(machine, request), machine.options.timeoutMs);
}

/** Returns the checks of a request, in the order in which their findings are shown. */
export async function planJobs(machine: Machine, request: DoctorRequest): Promise<Job[]> {
  const control = await machine.control();
  const { configuration, keyFiles, problems, socket, isGeneral } = request;
  const channels = configuration?.channels ?? [];
  const isNamed = (path: string): boolean => isGeneral || path === socket;
  const running = channelsOf(control).filter(
    ({ vproxy, channel }) => isNamed(vproxy.path) || channels.some(({ address }) => address.text === channel.address),
  );
  // Requested channels have rows of their own below.
  const others = running.filter(({ channel }) => !channels.some(({ address }) => address.text === channel.address));
  const files = new Set([...keyFiles, ...channels.flatMap((channel) => channel.keyFiles ?? [])]);
  const obstacles = findObstacles(channels);
  return [
    job('machine', 'machine', () => checkMachine(machine)),
    job('proxy', 'proxy settings', () => checkProxySettings(machine)),
    ...(problems.length === 0 ? [] : [job('config', 'configuration', () => describeProblems(problems))]),
    ...(isGeneral ? planMachine(machine) : []),
    ...planControl(machine, control, isGeneral, isNamed),
    ...channels.flatMap((channel) => planChannel(machine, channel, obstacles)),
    ...(configuration === null ? [] : planProcess(machine, configuration)),
    ...others.flatMap((one) => planRunning(machine, one)),
    ...[...files].map((path) => job('key', `key ${escapeText(path)}`, () => checkKeyFile(machine, path))),
    ...planKeys(channels, running),
    ...planRivals(channelsOf(control), running),
    ...running.map((one) => planSession(machine, one)),
    job('denials', 'logs', () => checkDenials(machine, { paths: pathsOf(channels, running, files) })),
  ];
}

/** Checks for a request that names nothing. */
function planMachine(machine: Machine): Job[] {
  return [job('virtio', 'machine', () => checkVirtioPorts(machine)), job('qemu', 'machine', () => checkQemu(machine))];
}

function planControl(
  machine: Machine,
  control: readonly ControlSocket[],
  isGeneral: boolean,
  isNamed: (path: string) => boolean,
): Job[] {
  return [
    ...(isGeneral ? [job('control', 'control sockets', () => checkControlFolder(machine, control))] : []),
    ...control
      .filter(({ path }) => isNamed(path))
      .map((one) => job('control', 'control socket', () => checkControlSocket(machine, one))),
  ];
}

/** Checks a requested channel: its location, its options, and the local ends of its forwards. */
function planChannel(machine: Machine, channel: Channel, obstacles: ReturnType<typeof findObstacles>): Job[] {
  const { label, address, forwards = [], exec = null } = channel;
  const subject = `channel ${label}`;
  const bytes = askedBuffer(channel);
  return [
    job(address.kindName, subject, () => checkAskedChannel(machine, address)),
    job('options', subject, async () => describeObstacle((await obstacles).get(label))),
    ...forwards.map((forward) => planForward(machine, channel, forward)),
    job('files', subject, () => checkFiles(machine, { pid: null, streams: [address.traits.streams] })),
    ...(bytes === null ? [] : [job('buffer', subject, () => checkBuffer(machine, { bytes }))]),
    ...(exec === null ? [] : [job('terminals', subject, () => checkTerminals(machine))]),
  ];
}

function planForward(machine: Machine, { label, egress = {} }: Channel, forward: ForwardSpec): Job {
  const { text } = describeForward(forward);
  if (forward.direction === 'incoming') {
    const subject = `channel ${label} -i ${escapeText(text)}`;
    const name = egressOf(forward);
    if (name === null) return job('target', subject, () => checkForward(machine, forward));
    const rules = (): EgressStatus['rules'] => describeEgressRules(resolveEgress(egress, label).get(name) ?? null);
    return job('egress', subject, () => checkEgress(name, rules()));
  }
  return job('listener', `channel ${label} -o ${escapeText(text)}`, async () => {
    const owner = await listenerOf(machine, text);
    return owner === null ? checkForward(machine, forward) : [heldBy(owner, 'listens there')];
  });
}

/** Returns the running vproxy that has the same outgoing forward, or null. */
async function listenerOf(machine: Machine, text: string): Promise<RunningVproxy | null> {
  const hasIt = ({ forwards }: RunningVproxy): boolean =>
    forwards.some(({ direction, spec }) => direction === 'outgoing' && spec === text);
  return (await machine.control()).flatMap(({ running }) => running ?? []).find(hasIt) ?? null;
}

/** Checks the listeners that belong to the process rather than to a channel. */
function planProcess(machine: Machine, { metrics, httpPorts, control }: Configuration): Job[] {
  const planAddress = (option: string, address: HostPort | undefined): Job[] =>
    address === undefined
      ? []
      : [job('listener', `${option} ${formatHostPort(address)}`, () => checkTcpListen(machine, address))];
  return [
    ...planAddress('--metrics', metrics),
    ...planAddress('--http-ports', httpPorts),
    ...(control === undefined || control === false
      ? []
      : [job('listener', `--control ${escapeText(control.path)}`, () => lookAtControl(machine, control.path))]),
  ];
}

async function lookAtControl(machine: Machine, path: string): Promise<Finding[]> {
  const owner = (await machine.control()).find((socket) => socket.path === path)?.running ?? null;
  if (owner !== null) return [heldBy(owner, 'listens there')];
  return checkUnixListen(machine, path);
}

/** Checks a channel of a running vproxy whose address was not requested. */
function planRunning(machine: Machine, { vproxy, channel, address }: RunningChannel): Job[] {
  if (address === null) return [];
  const subject = `channel ${channel.label} of ${formatRunning(vproxy)}`;
  const { label, state } = channel;
  const ownPid = vproxy.status.process.pid;
  const targets = vproxy.forwards.filter((forward) => forward.channel === label && forward.direction === 'incoming');
  // A channel with a session evidently works: its location is not examined.
  const isUp = state === 'established' || state === 'draining';
  const look = async () => (await checkChannel(machine, address, isHeld(state) ? ownPid : null)) ?? [];
  return [
    ...(isUp ? [] : [job(address.kindName, subject, look)]),
    ...targets.map((forward) => planRunningTarget(machine, vproxy, subject, forward)),
    job('files', subject, () => checkFiles(machine, { pid: ownPid, streams: [address.traits.streams] })),
  ];
}

function planRunningTarget(
  machine: Machine,
  { egress }: RunningVproxy,
  channelSubject: string,
  { channel, service, spec }: ForwardStatus,
): Job {
  const subject = `${channelSubject} -i ${escapeText(spec)}`;
  const own = egress.find((one) => one.channel === channel && one.services.includes(service));
  return own === undefined
    ? job('target', subject, () => checkForward(machine, parseForwardSpec('incoming', spec)))
    : job('egress', subject, () => checkEgress(own.name, own.rules));
}

const planSession = (machine: Machine, one: RunningChannel): Job =>
  job('session', `channel ${one.channel.label} of ${formatRunning(one.vproxy)}`, () => checkSession(machine, one));

/** Checks whether a running session was authenticated with a key of the requested files. */
function planKeys(channels: readonly Channel[], running: readonly RunningChannel[]): Job[] {
  return channels.flatMap(({ label, address, keyFiles = [] }) => {
    const key = running.find(({ channel }) => channel.address === address.text)?.channel.session?.key ?? null;
    if (key === null || keyFiles.length === 0) return [];
    return [job('key', `channel ${label}`, () => checkSessionKey(key, keyFiles))];
  });
}

/** All paths that a denial could concern. */
function pathsOf(
  channels: readonly Channel[],
  running: readonly RunningChannel[],
  files: ReadonlySet<string>,
): string[] {
  const addresses = [...channels, ...running].flatMap(({ address }) => address ?? []);
  const ends = channels.flatMap(({ forwards = [] }) =>
    forwards.map(({ endpoint }) => ('path' in endpoint ? endpoint.path : '')),
  );
  return [...new Set([...addresses.flatMap(pathIn), ...ends, ...files])].filter((path) => path.startsWith('/'));
}

function pathIn({ kind, address }: ChannelAddress): string[] {
  const location = kind.locate?.(address);
  if (location?.is === 'virtio-port') return [location.name];
  return location !== undefined && 'path' in location ? [location.path] : [];
}
