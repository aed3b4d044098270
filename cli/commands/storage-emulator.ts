/** `vproxy storage-emulator`: answers storage calls from a file of recorded replies. */
import { once } from 'node:events';
import { toVproxyError } from '../../lib/errors.js';
import { createStorageEmulator } from '../../lib/storage/emulator.js';
import { readReplies } from '../../lib/storage/replies.js';
import type { ListenAddress } from '../../lib/system/sockets/listen-address.js';
import { formatListenAddress } from '../../lib/system/sockets/listen-at.js';
import { parseHostPort } from '../../lib/util/addresses/host-port.js';
import { escapeText } from '../../lib/util/escape.js';
import { badArgument } from '../command/arguments.js';
import type { Command } from '../command/command.js';

const DEFAULT_LISTEN = '127.0.0.1:50000';

export const command: Command = {
  usage: 'storage-emulator --replies FILE [--listen ADDRESS]… [--dial ADDRESS]…',
  about:
    'Answers storage calls from a file of recorded replies, and logs each call to stderr, until SIGINT or SIGTERM.',
  examples: [
    ['vproxy storage-emulator --replies replies.json', 'Listen on port 50000 of this machine'],
    [
      'vproxy storage-emulator --replies replies.json --dial 127.0.0.1:9500',
      'Connect to a vproxy with -o storage:127.0.0.1:9500',
    ],
  ],
  options: {
    replies: { value: 'FILE', describe: 'JSON file of recorded replies; required' },
    listen: {
      value: 'ADDRESS',
      isRepeatable: true,
      describe: `ADDR:PORT or /path to listen on [default without --dial: ${DEFAULT_LISTEN}]`,
    },
    dial: {
      value: 'ADDRESS',
      isRepeatable: true,
      describe: 'ADDR:PORT or /path to connect to, reconnecting when the connection ends',
    },
  },
  isLocal: true,
  async run(args) {
    const file = args.text('replies');
    if (file === undefined) throw badArgument('--replies: missing; expected --replies FILE');
    const dial = args.texts('dial').map((text) => parseAddress('--dial', 1, text));
    const texts = args.texts('listen');
    const listenTexts = texts.length > 0 ? texts : dial.length > 0 ? [] : [DEFAULT_LISTEN];
    const listen = listenTexts.map((text) => parseAddress('--listen', 0, text));
    const ending = new AbortController();
    const end = () => ending.abort();
    process.once('SIGINT', end).once('SIGTERM', end);
    const replies = await readReplies(file);
    const emulator = createStorageEmulator((request) => replies.answer(request));
    try {
      for (const address of listen) {
        log(`storage emulator listening on ${formatListenAddress(await emulator.listen(address))}`);
      }
      let lastFailure = '';
      emulator.on('connected', (address) => {
        lastFailure = '';
        log(`storage emulator connected to ${formatListenAddress(address)}`);
      });
      emulator.on('request', ({ argv, vm }) => {
        lastFailure = '';
        log(`storage call${vm === undefined ? '' : ` of ${escapeText(vm, 64)}`}: ${escapeText(argv.join(' '))}`);
      });
      emulator.on('failure', ({ message }) => {
        // Report an address that is redialled only once.
        if (message !== lastFailure) log(message);
        lastFailure = message;
      });
      for (const address of dial) emulator.dial(address);
      if (!ending.signal.aborted) await once(ending.signal, 'abort');
    } finally {
      await emulator.close();
    }
  },
};

const log = (line: string): void => void process.stderr.write(`${line}\n`);

function parseAddress(option: string, lowestPort: 0 | 1, text: string): ListenAddress {
  if (text.startsWith('/')) return { path: text };
  try {
    return parseHostPort(text, lowestPort);
  } catch (cause) {
    const message = `${option}: ${toVproxyError(cause).message}, nor an absolute path`;
    throw badArgument(message, { cause });
  }
}
