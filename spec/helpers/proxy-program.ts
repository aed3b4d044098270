/**
 * A program that runs several proxies in one process, started as `node dist/spec/helpers/proxy-program.js JSON`, where JSON is a
 * {@link ProxyProgram}; it logs like `vproxy`.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { keepHeapSmall } from '../../cli/engine.js';
import { exitOnDefect } from '../../cli/exit.js';
import { Output } from '../../cli/run/output.js';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import type { ChannelOptions } from '../../lib/proxy/channel/channel-options.js';
import { Proxy } from '../../lib/proxy/proxy.js';

export interface ProxyProgram {
  /** A proxy for each of these channels. Default: none. */
  readonly proxies?: readonly ProgramChannel[];
  /** One proxy with all of these channels. Default: none. */
  readonly channels?: readonly (ProgramChannel & { readonly label: string })[];
}

export interface ProgramChannel {
  readonly channel: string;
  readonly outgoing?: readonly string[];
  readonly incoming?: readonly string[];
  readonly keyFiles?: readonly string[];
}

function optionsOf({ channel, outgoing = [], incoming = [], ...rest }: ProgramChannel): ChannelOptions {
  const forwards = [
    ...outgoing.map((text) => parseForwardSpec('outgoing', text)),
    ...incoming.map((text) => parseForwardSpec('incoming', text)),
  ];
  return { address: channel, forwards, ...rest };
}

async function run({ proxies = [], channels = [] }: ProxyProgram): Promise<void> {
  keepHeapSmall();
  const output = new Output();
  exitOnDefect((error) => output.defect(error));
  const groups = [...proxies.map((one) => [one]), ...(channels.length > 0 ? [channels] : [])];
  const running = groups.map((group) => new Proxy({ channels: group.map(optionsOf), agent: 'proxy program' }));
  for (const proxy of running) {
    proxy.on('log', (event) => output.log(event));
    await proxy.start();
  }
  process.once('SIGTERM', () => {
    void Promise.race([Promise.all(running.map((proxy) => proxy.stop())), delay(1000)]).then(() => process.exit(0));
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await run(JSON.parse(process.argv[2] ?? '') as ProxyProgram);

export const PROXY_PROGRAM = 'dist/spec/helpers/proxy-program.js';
