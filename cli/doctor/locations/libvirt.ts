/** A port of a libvirt domain: virsh, the domain, and its channel. */
import type { ChannelLocation } from '../../../lib/channel/kind.js';
import {
  choosePort,
  type DomainPort,
  dumpDomain,
  explain,
  hostEndOf,
  type LibvirtAddress,
  parseDomain,
} from '../../../lib/channel/libvirt.js';
import { systemClock } from '../../../lib/util/clock.js';
import { escapeText } from '../../../lib/util/escape.js';
import { type Finding, failure, failureOf, finding } from '../findings.js';
import type { Machine } from '../machine.js';

/** Share of a check's time for virsh; the rest is for what the domain's port leads to. */
const VIRSH_PART = 0.6;

/** Findings about a domain, and the host's end of its port; null if unknown. */
interface DomainLook {
  readonly found: Finding[];
  readonly place: ChannelLocation | null;
}

const nowhere = (found: Finding): DomainLook => ({ found: [found], place: null });

/** Asks virsh as the channel does. */
export async function checkLibvirt(machine: Machine, asked: LibvirtAddress): Promise<DomainLook> {
  const domain = await askVirsh(machine, asked);
  if ('id' in domain) return nowhere(domain);
  const shown = escapeText(asked.domain, 80);
  if (!domain.isRunning) {
    return nowhere(failure('domain-port', 'channel-missing', `the domain ${shown} is shut off`, { DOMAIN: shown }));
  }
  try {
    const port = choosePort(domain.ports, asked.port);
    const { location } = hostEndOf(port);
    const what = `the domain ${shown} is running; its port ${escapeText(port.name, 80)} is ${describePlace(port)}`;
    return { found: [finding('domain-port', what)], place: location };
  } catch (error) {
    return nowhere(failureOf('domain-port', explain(shown, error), { DOMAIN: shown }));
  }
}

async function askVirsh(machine: Machine, { domain, uri }: LibvirtAddress) {
  const timeoutMs = machine.timeFor(VIRSH_PART);
  const signal = AbortSignal.timeout(timeoutMs);
  try {
    return parseDomain(await dumpDomain(domain, { signal, clock: systemClock, program: machine.options.virsh, uri }));
  } catch (error) {
    if (signal.aborted) return failure('virsh', 'channel-failed', `no answer from virsh within ${timeoutMs} ms`);
    return failureOf('virsh', explain(escapeText(domain, 80), error));
  }
}

const place = ({ source }: DomainPort, name: string): string => source.get(name) ?? '';

function describePlace(port: DomainPort): string {
  return port.type === 'tcp'
    ? `TCP port ${escapeText(place(port, 'service'), 16)}`
    : `${escapeText(port.type, 16)} ${escapeText(place(port, 'path'))}`;
}
