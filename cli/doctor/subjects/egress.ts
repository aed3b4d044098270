/** Egresses: whether those that targets lead to let anything out, and whether the proxy that programs here are told of is there. */
import { join } from 'node:path';
import type { EgressStatus } from '../../../lib/status/types.js';
import { listFolder, readText } from '../../../lib/system/files/optional-files.js';
import {
  addressesOverlap,
  formatHostPort,
  type HostPort,
  isLoopback,
  parseHostPort,
} from '../../../lib/util/addresses.js';
import { escapeText } from '../../../lib/util/escape.js';
import { type Finding, finding } from '../findings.js';
import type { Machine } from '../machine.js';
import { formatHolders } from '../process-list.js';
import { heldBy, type RunningVproxy } from '../running.js';

/** Whether an egress lets anything out; `rules` as a status has them. */
export function checkEgress(name: string, rules: EgressStatus['rules']): Finding[] {
  const shown = `egress "${escapeText(name, 80)}"`;
  if (rules === null) return [finding('egress-closed', `nothing is said of ${shown}: everything is refused`)];
  const { allow, deny } = rules;
  if (allow.length === 0) return [finding('egress-closed', `${shown} allows nothing: everything is refused`)];
  return [finding('egress-open', `${shown} has entries: ${allow.length} to allow, ${deny.length} to deny`)];
}

/** A proxy of which programs are told, and where. */
interface ProxySetting {
  readonly where: string;
  readonly address: HostPort;
}

/** Whether somebody listens at each address of this machine that programs take for their proxy. */
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
  const leads = `${escapeText(where, 200)} leads to ${formatHostPort(address)}`;
  const owner = running.find(({ forwards }) => forwards.some(({ endpoint }) => listensAt(endpoint, address)));
  if (owner !== undefined)
    return [heldBy(owner, `listens at ${formatHostPort(address)}, to which ${escapeText(where, 200)} leads`)];
  const listener = (await machine.sockets()).find(
    (socket) => socket.state === 'listening' && socket.address !== null && addressesOverlap(socket.address, address),
  );
  if (listener === undefined) return [finding('proxy-unserved', `${leads}, where nothing listens`)];
  const processes = await machine.processes();
  const who = formatHolders(processes.holdersOfSocket(listener.inode), processes.isPartial);
  return [finding('proxy-other', `${leads}, where ${who} listens`)];
}

function listensAt(endpoint: string, address: HostPort): boolean {
  const own = hostPortOf(endpoint);
  return own !== null && addressesOverlap(own, address);
}

function hostPortOf(text: string): HostPort | null {
  try {
    return parseHostPort(text);
  } catch {
    return null;
  }
}

/** As curl(1), wget(1) and apt read them. */
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
      // A comment has to begin its line here: two slashes are in every address.
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

/** The address in `http://user:password@127.0.0.1:3128/`, of which nothing else is shown; a value that has none is left out. */
function proxySetting(where: string, value: string): ProxySetting[] {
  const [, text = ''] = /^(?:[a-z][a-z0-9]*:\/\/)?(?:[^@/]*@)?([^/@]+)\/?$/i.exec(value.trim()) ?? [];
  const address = hostPortOf(text);
  return address === null ? [] : [{ where, address }];
}
