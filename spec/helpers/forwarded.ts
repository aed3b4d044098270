/** Two proxies in this process with a forward between them. */
import type net from 'node:net';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { ForwardStatus } from '../../lib/status/types.js';
import { temporaryFolder } from './files.js';
import { connectedProxies, localSocket, type ProxySetup, type TestProxy } from './proxies.js';

interface Forwarded {
  readonly a: TestProxy;
  readonly b: TestProxy;
  /** Where `a` listens for the first service. */
  readonly port: number;
  /** A program that connects to a service, by default the first one. */
  readonly connect: (service?: string) => net.Socket;
}

/** `a` listens for the services of the targets, given as `NAME:ENDPOINT`, and `b` serves them. */
export async function forwarded(
  t: ExecutionContext,
  targets: string | readonly string[],
  { a = {}, b = {} }: { readonly a?: ProxySetup; readonly b?: ProxySetup } = {},
): Promise<Forwarded> {
  const incoming = [targets].flat();
  const services = incoming.map((target) => target.slice(0, target.indexOf(':')));
  const outgoing = services.map((service) => `${service}:0`);
  const path = join(temporaryFolder(t), 'channel');
  const proxies = await connectedProxies(t, path, { outgoing, ...a }, { incoming, ...b });
  const port = proxies.a.port(services[0] ?? '');
  const connect = (service = services[0] ?? '') => localSocket(t, { port: proxies.a.port(service) });
  return { ...proxies, port, connect };
}

/** The state of the first forward of a side. */
export const forwardOf = ({ proxy }: TestProxy): ForwardStatus => {
  const [found] = proxy.listForwards();
  if (found === undefined) throw new Error('there is no forward');
  return found;
};
