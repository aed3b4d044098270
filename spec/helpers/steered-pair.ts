/** Two proxies with a session, a control socket at one of them, and the commands that steer it. */
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { type ControlClient, connectControl } from '../../lib/control/client/client.js';
import { startControl, type TestControl } from './control.js';
import { connectedProxies, type ProxySetup, type TestProxy } from './proxies.js';
import { type RunResult, runVproxy } from './run-vproxy.js';
import { temporaryFolder } from './temp-folder.js';

/** The side that is steered is `here`. */
export interface SteeredPair {
  readonly here: TestProxy;
  readonly peer: TestProxy;
  readonly control: TestControl;
  readonly client: ControlClient;
  /** For commands: the socket, and a terminal without colours. */
  readonly env: Readonly<Record<string, string>>;
  /** Runs a command to its end. */
  readonly run: (...args: readonly string[]) => Promise<RunResult>;
}

/** A pair with a session. */
export async function steeredPair(
  t: ExecutionContext,
  { here = {}, peer = {} }: { readonly here?: ProxySetup; readonly peer?: ProxySetup } = {},
): Promise<SteeredPair> {
  const { a, b } = await connectedProxies(t, join(temporaryFolder(t), 'c'), here, peer);
  const control = await startControl(t, a.proxy);
  const env = { VPROXY_SOCKET: control.path };
  const run = (...args: readonly string[]): Promise<RunResult> => runVproxy(args, { env });
  return { here: a, peer: b, control, client: connectControl(control.path), env, run };
}
