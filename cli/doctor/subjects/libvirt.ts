/** A port of a libvirt domain: virsh, the domain, its channel, and what is at the channel's place. */
import { choosePort, type DomainPort, dialPort, dumpDomain, parseDomain } from '../../../lib/channel/libvirt.js';
import { toVproxyError } from '../../../lib/errors.js';
import { dialableHost } from '../../../lib/util/addresses.js';
import { systemClock } from '../../../lib/util/clock.js';
import { escapeText } from '../../../lib/util/escape.js';
import { type Finding, type FindingId, finding } from '../findings.js';
import type { Machine } from '../machine.js';
import { checkPipe } from './pipe.js';
import { checkTty } from './serial-line.js';
import { checkTcpConnect } from './tcp-address.js';
import { checkUnixSocket } from './unix-socket.js';

/** A port, by name or as `libvirt:` chooses it. `ownPid`: the vproxy that runs and has it, or null. */
export interface DomainSubject {
  readonly domain: string;
  readonly port: string | null;
  readonly uri: string | null;
  readonly ownPid: number | null;
}

/** virsh may take this part of a check's time; what it leads to has the rest. */
const VIRSH_PART = 0.6;

/** Asks virsh as the channel does, and looks at what it names. */
export async function checkLibvirt(machine: Machine, subject: DomainSubject): Promise<Finding[]> {
  const domain = await askVirsh(machine, subject);
  if ('id' in domain) return [domain];
  const shown = escapeText(subject.domain, 80);
  if (!domain.isRunning) {
    return [finding('domain-off', `the domain ${shown} is shut off`, `virsh start ${shown}`)];
  }
  let port: DomainPort;
  try {
    port = choosePort(domain.ports, subject.port);
  } catch (error) {
    return [finding('domain-no-port', `${shown}: ${toVproxyError(error).message}`)];
  }
  try {
    // It makes sure that the port is one that can be opened, and opens nothing.
    dialPort(port);
  } catch (error) {
    return [finding('domain-port-unusable', `${shown}: ${toVproxyError(error).message}`)];
  }
  const found = finding(
    'domain-port',
    `the domain ${shown} runs, and its port ${escapeText(port.name, 80)} is ${describePlace(port)}`,
  );
  return [found, ...(await lookAtPlace(machine, port, subject.ownPid))];
}

async function askVirsh(machine: Machine, { domain, uri }: DomainSubject) {
  const timeoutMs = machine.timeFor(VIRSH_PART);
  const signal = AbortSignal.timeout(timeoutMs);
  try {
    return parseDomain(await dumpDomain(domain, { signal, clock: systemClock, program: machine.options.virsh, uri }));
  } catch (error) {
    const { code, message } = toVproxyError(error);
    if (signal.aborted) return finding('libvirt-silent', `virsh did not answer within ${timeoutMs} ms`);
    return finding(MEANINGS.get(code) ?? 'libvirt-silent', message);
  }
}

const MEANINGS: ReadonlyMap<string, FindingId> = new Map<string, FindingId>([
  ['channel-missing', 'domain-missing'],
  ['channel-denied', 'libvirt-denied'],
  ['channel-unusable', 'virsh-missing'],
]);

const place = ({ source }: DomainPort, name: string): string => source.get(name) ?? '';

function describePlace(port: DomainPort): string {
  return port.type === 'tcp'
    ? `TCP port ${escapeText(place(port, 'service'), 16)}`
    : `${escapeText(port.type, 16)} ${escapeText(place(port, 'path'))}`;
}

function lookAtPlace(machine: Machine, port: DomainPort, ownPid: number | null): Promise<Finding[]> {
  const [path, isOurs] = [place(port, 'path'), ownPid !== null];
  if (port.type === 'unix') return checkUnixSocket(machine, { path, isExclusive: true, ownPid });
  if (port.type === 'pipe') return checkPipe(machine, { path, isOurs });
  if (port.type === 'pty') return checkTty(machine, { path, isOurs });
  return checkTcpConnect(machine, {
    address: { host: dialableHost(place(port, 'host')), port: Number(place(port, 'service')) },
    isExclusive: true,
    isOurs,
  });
}
