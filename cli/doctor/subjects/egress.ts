/** Egresses: whether they let anything out, and whether the proxies that local programs are configured to use exist. */

import { join } from 'node:path';
import type { EgressStatus } from '../../../lib/status/types.js';
import { listFolder, readText } from '../../../lib/system/files/optional-files.js';
import {
  addressesOverlap,
  formatHostPort,
  type HostPort,
  isLoopback,
  parseHostPort,
} from '../../../lib/util/addresses/host-port.js';
import { escapeText } from '../../../lib/util/escape.js';
import { orElse } from '../../../lib/util/or-else.js';
import { type Finding, finding } from '../findings.js';
import type { Machine } from '../machine.js';
import { heldBy, type RunningVproxy } from '../running.js';

/** Checks whether an egress lets anything out; `rules` as in a status. */
export function checkEgress(name: string, rules: EgressStatus['rules']): Finding[] {
  const shown = `egress "${escapeText(name, 80)}"`;
  if (rules === null) return [finding('egress-closed', `${shown} is not defined: everything is refused`)];
  const { allow, deny } = rules;
  if (allow.length === 0) return [finding('egress-closed', `${shown} allows nothing: everything is refused`)];
  return [finding('egress-open', `${shown} has ${allow.length} allow and ${deny.length} deny entries`)];
}

/** A proxy that programs are configured to use, and where that is set. */
interface ProxySetting {
  readonly where: string;
  readonly address: HostPort;
}

/** Checks that each local address that programs are to use as a proxy is served. */
export async function checkProxySettings(machine: Machine): Promise<Finding[]> {
  const settings = [...environmentProxies(machine), ...aptProxies(machine)];
  const local = settings.filter(({ address }) => isLoopback(address.host));
  if (local.length === 0) return [];
  const running = (await machine.control()).flatMap(({ running: one }) => one ?? []);
  return (await Promise.all(local.map((setting) => checkProxy(machine, running, setting)))).flat();
}

async function checkProxy(
  machine: Machine,
  running: readonly RunningVproxy[],
  { where, address }: ProxySetting,
): Promise<Finding[]> {
  const leads = `${escapeText(where, 200)} points to ${formatHostPort(address)}`;
  const owner = running.find(({ forwards }) => forwards.some(({ endpoint }) => listensAt(endpoint, address)));
  if (owner !== undefined)
    return [heldBy(owner, `listens on ${formatHostPort(address)}, to which ${escapeText(where, 200)} points`)];
  const listener = await machine.listenerAt((one) => one.address !== null && addressesOverlap(one.address, address));
  if (listener === null) return [finding('proxy-unserved', `${leads}, where nothing listens`)];
  return [finding('proxy-other', `${leads}, where ${listener.who} listens`)];
}

function listensAt(endpoint: string, address: HostPort): boolean {
  const own = hostPortOf(endpoint);
  return own !== null && addressesOverlap(own, address);
}

const hostPortOf = (text: string): HostPort | null => orElse(null, () => parseHostPort(text));

/** Variables that curl(1), wget(1) and apt read. */
const VARIABLES = ['http_proxy', 'https_proxy', 'all_proxy', 'ftp_proxy'];

function environmentProxies({ options: { environment } }: Machine): ProxySetting[] {
  return VARIABLES.flatMap((name) => [name, name.toUpperCase()]).flatMap((name) =>
    proxySetting(name, environment[name] ?? ''),
  );
}

/** `Acquire::http::Proxy "http://127.0.0.1:3128";` of apt.conf(5), and the same within braces. */
function aptProxies({ options: { etc } }: Machine): ProxySetting[] {
  return ['apt.conf', ...partsIn(join(etc, 'apt/apt.conf.d')).map((name) => join('apt.conf.d', name))].flatMap(
    (name) => {
      const path = join(etc, 'apt', name);
      // Only comments at the start of a line count: every address contains two slashes.
      const text = readText(path).replaceAll(/^[ \t]*(?:\/\/|#).*$/gm, '');
      const values = [...text.matchAll(/\bProxy(?:::[^\s"{]+)?\s+"([^"\n]*)"/gi)].map(([, value = '']) => value);
      return values.flatMap((value) => proxySetting(path, value));
    },
  );
}

/** The files that apt reads in a folder: without an extension, or with `.conf`. */
function partsIn(folder: string): string[] {
  return (listFolder(folder) ?? []).filter((name) => /^[A-Za-z0-9_-]+(?:\.conf)?$/.test(name)).sort();
}

/** Extracts the address of `http://user:password@127.0.0.1:3128/`, and nothing else of it; skips a value without one. */
function proxySetting(where: string, value: string): ProxySetting[] {
  const [, text = ''] = /^(?:[a-z][a-z0-9]*:\/\/)?(?:[^@/]*@)?([^/@]+)\/?$/i.exec(value.trim()) ?? [];
  const address = hostPortOf(text);
  return address === null ? [] : [{ where, address }];
}
