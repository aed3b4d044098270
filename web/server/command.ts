/** `vproxy web`: a page that shows machines. The program loads this from the folder of the page. */

import { badArgument } from '../../cli/command/arguments.js';
import type { Command } from '../../cli/command/command.js';
import { socketInEnvironment } from '../../cli/command/find-process.js';
import { print } from '../../cli/ui/print.js';
import { toVproxyError } from '../../lib/errors.js';
import type { ListenAddress } from '../../lib/system/sockets/listen-address.js';
import { isLoopback, parseHostPort } from '../../lib/util/addresses/host-port.js';
import { runWeb } from './run-web.js';

export const command: Command = {
  usage: 'web [--listen ADDRESS] [--open] [--read-only | --recordings FOLDER] [--socket PATH]…',
  about:
    'Serves a page that shows all machines of all running vproxy processes, and acts on them: streams, forwards, ports, jobs, files, egresses and their questions, terminals. Prints a link with a token that lets its reader in, and runs until SIGINT, SIGTERM or SIGHUP.',
  examples: [
    ['vproxy web --open', 'And open it in the browser'],
    ['vproxy web --listen 127.0.0.1:8080 --read-only', 'To look, without changing anything'],
  ],
  isLocal: true,
  options: {
    listen: { value: 'ADDRESS', describe: 'ADDR:PORT, or /path for a reverse proxy [default: 127.0.0.1:0]' },
    open: { describe: 'Open the link with xdg-open' },
    'read-only': { describe: 'Change nothing, and show no files, outputs or terminals' },
    recordings: { value: 'FOLDER', describe: 'Play the terminals that vproxy has recorded there' },
    socket: {
      value: 'PATH',
      isRepeatable: true,
      describe: 'Control socket of a process to show [default: all processes]',
    },
    cert: { value: 'FILE', describe: 'Certificate for TLS, in PEM; with --key' },
    key: { value: 'FILE', describe: 'Its key' },
    insecure: { describe: 'Serve other machines without TLS' },
  },
  async run(args) {
    const address = parseAddress(args.text('listen') ?? '127.0.0.1:0');
    const [cert, key] = [args.text('cert'), args.text('key')];
    if ((cert === undefined) !== (key === undefined)) throw badArgument('--cert and --key: one needs the other');
    const tls = cert !== undefined && key !== undefined ? { cert, key } : null;
    if ('port' in address && !isLoopback(address.host) && tls === null && !args.has('insecure'))
      throw badArgument(`--listen: ${address.host} is not loopback: use --cert and --key, or --insecure`);
    const recordings = args.text('recordings') ?? null;
    if (recordings !== null && args.has('read-only')) throw badArgument('--recordings: not with --read-only');
    const ending = new AbortController();
    const end = (): void => ending.abort();
    process.once('SIGINT', end).once('SIGTERM', end).once('SIGHUP', end);
    const [isReadOnly, isOpened] = [args.has('read-only'), args.has('open')];
    await runWeb({
      ...{
        address,
        assets: import.meta.dirname,
        isReadOnly,
        recordings,
        isOpened,
        tls,
        sockets: args.texts('socket'),
        socket: socketInEnvironment() ?? null,
        signal: ending.signal,
      },
      ...{ isRoot: process.getuid?.() === 0, runtimeDirectory: process.env['XDG_RUNTIME_DIR'] ?? null },
      onReady: (link) => print(`${link}\n`),
    });
  },
};

function parseAddress(text: string): ListenAddress {
  if (text.startsWith('/')) return { path: text };
  try {
    return parseHostPort(text, 0);
  } catch (cause) {
    throw badArgument(`--listen: ${toVproxyError(cause).message}, nor an absolute path`, { cause });
  }
}
