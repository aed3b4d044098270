/** The checks of one channel that is asked for, and of its forwards. */
import { parseChannel } from '../../lib/channel/address/address.js';
import { toVproxyError } from '../../lib/errors.js';
import { type ForwardSpec, formatForwardSpec } from '../../lib/forward/spec.js';
import { isGroup } from '../../lib/proxy/group-pattern.js';
import { Proxy } from '../../lib/proxy/proxy.js';
import type { Configuration } from '../../lib/settings/configuration.js';
import { escapeText } from '../../lib/util/escape.js';
import { describeAgent } from '../package-info.js';
import { checkChannel } from './channel-checks.js';
import { checkForward } from './checks/forward.js';
import { checkGroup } from './checks/group.js';
import { checkFiles } from './checks/open-files.js';
import { checkTerminals } from './checks/terminals.js';
import { type Finding, finding } from './finding.js';
import type { Machine } from './machine.js';
import type { Job } from './run-jobs.js';
import { formatRunning, type RunningChannel } from './running.js';

/** A channel that would be in force. */
export type Channel = Configuration['channels'][number];

/** What it is made of, what only the proxy itself finds wrong, and both ends of its forwards here. */
export function planChannel(machine: Machine, channel: Channel): Job[] {
  const { label, address, forwards = [], exec = null } = channel;
  const parsed = parseChannel(address);
  return [
    { check: parsed.kindName, subject: `channel ${label}`, run: () => lookAtChannel(machine, address) },
    { check: 'options', subject: `channel ${label}`, run: () => checkOptions(channel) },
    ...forwards.map((forward) => planForward(machine, label, forward)),
    {
      check: 'files',
      subject: `channel ${label}`,
      run: () => checkFiles(machine, { pid: null, streams: [parsed.traits.streams] }),
    },
    ...(exec === null ? [] : [{ check: 'terminals', subject: `channel ${label}`, run: () => checkTerminals(machine) }]),
  ];
}

async function lookAtChannel(machine: Machine, address: string): Promise<Finding[]> {
  const owner = await machine.runningChannel(address);
  const held =
    owner === null
      ? []
      : [finding('held-by-vproxy', `${formatRunning(owner.vproxy)} has it, as its channel ${owner.channel.label}`)];
  if (isGroup({ address })) return [...held, ...(await checkGroup(machine, { address, ownPid: ownPidOf(owner) }))];
  const found = await checkChannel(machine, parseChannel(address), ownPidOf(owner));
  return [
    ...held,
    ...(found ?? [finding('not-checked', `${escapeText(address)}: nothing of it can be looked at beforehand`)]),
  ];
}

const ownPidOf = (owner: RunningChannel | null): number | null => owner?.vproxy.status.process.pid ?? null;

/** What only the proxy itself finds wrong. Key files have checks of their own. */
function checkOptions(channel: Channel): Finding[] {
  try {
    new Proxy({ channels: [channel], agent: describeAgent() });
    return [];
  } catch (error) {
    const { code, message } = toVproxyError(error);
    return code === 'bad-file' ? [] : [finding('channel-refused', message)];
  }
}

function planForward(machine: Machine, label: string, forward: ForwardSpec): Job {
  const option = forward.direction === 'outgoing' ? '-o' : '-i';
  const text = formatForwardSpec(forward);
  return {
    check: forward.direction === 'outgoing' ? 'listener' : 'target',
    subject: `channel ${label} ${option} ${escapeText(text)}`,
    run: async () => {
      const owner = await ownerOf(machine, forward.direction, text);
      if (owner !== null) return [finding('held-by-vproxy', `${owner} listens there`)];
      return checkForward(machine, { forward, isOurs: false });
    },
  };
}

/** The vproxy that runs with the same outgoing forward; null where none does. */
async function ownerOf(machine: Machine, direction: string, text: string): Promise<string | null> {
  if (direction !== 'outgoing') return null;
  for (const { running } of await machine.control()) {
    if (running?.forwards.some((forward) => forward.direction === direction && forward.spec === text))
      return formatRunning(running);
  }
  return null;
}
