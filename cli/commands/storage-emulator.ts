/** `vproxy storage-emulator`: answers storage calls from a file of recorded replies. */
import type { CommandModule } from 'yargs';
import { toVproxyError, VproxyError } from '../../lib/errors.js';
import { escapeText } from '../../lib/util/escape.js';
import { parseHostPort } from '../../lib/util/host-port.js';
import type { ListenAddress } from '../../lib/util/listen.js';

/** The arguments of the command. */
export interface StorageEmulatorArguments {
  /** The file of recorded replies. */
  readonly replies: string;
  /** `ADDR:PORT` or `/path` to listen on. Default, without `dial`: 127.0.0.1:50000. */
  readonly listen?: readonly string[] | undefined;
  /** `ADDR:PORT` or `/path` to connect to, again and again. */
  readonly dial?: readonly string[] | undefined;
}

const DEFAULT_LISTEN = '127.0.0.1:50000';

/**
 * Runs the emulator until `signal`. Each line of its log goes to `log`; the addresses that it listens on come first.
 * Rejects with `bad-argument`, `bad-file` or an `address-…` code.
 */
export async function runStorageEmulator(
  options: StorageEmulatorArguments,
  signal: AbortSignal,
  log: (line: string) => void,
): Promise<void> {
  const dial = (options.dial ?? []).map((text) => parseAddress('--dial', 1, text));
  const listenTexts = options.listen?.length ? options.listen : dial.length > 0 ? [] : [DEFAULT_LISTEN];
  const listen = listenTexts.map((text) => parseAddress('--listen', 0, text));
  // Other commands need not wait for this to be loaded.
  const [{ createStorageEmulator }, { formatStorageAddress }, { readReplies }] = await Promise.all([
    import('../../lib/storage/emulator.js'),
    import('../../lib/storage/listen.js'),
    import('../../lib/storage/replies.js'),
  ]);
  const replies = await readReplies(options.replies);
  const emulator = createStorageEmulator((request) => replies.answer(request));
  try {
    for (const address of listen) {
      log(`storage emulator listening on ${formatStorageAddress(await emulator.listen(address))}`);
    }
    let lastFailure = '';
    emulator.on('connected', (address) => {
      lastFailure = '';
      log(`storage emulator connected to ${formatStorageAddress(address)}`);
    });
    emulator.on('request', ({ argv, vm }) => {
      lastFailure = '';
      log(`storage call${vm === undefined ? '' : ` of ${escapeText(vm, 64)}`}: ${escapeText(argv.join(' '))}`);
    });
    emulator.on('failure', ({ message }) => {
      // An address that is dialled again and again is told of once.
      if (message !== lastFailure) log(message);
      lastFailure = message;
    });
    for (const address of dial) emulator.dial(address);
    await aborted(signal);
  } finally {
    await emulator.close();
  }
}

/** The command for yargs. It prints its own failures and sets the exit status. */
export const storageEmulatorCommand: CommandModule<object, StorageEmulatorArguments> = {
  command: 'storage-emulator',
  describe: 'Answer storage calls from a file of recorded replies',
  builder: (yargs) =>
    yargs
      .option('replies', {
        type: 'string',
        demandOption: true,
        requiresArg: true,
        describe: 'File of recorded replies (JSON)',
      })
      .option('listen', {
        type: 'string',
        array: true,
        nargs: 1,
        describe: `ADDR:PORT or /path to listen on [default without --dial: ${DEFAULT_LISTEN}]`,
      })
      .option('dial', {
        type: 'string',
        array: true,
        nargs: 1,
        describe: 'ADDR:PORT or /path to connect to, again whenever that ends',
      }),
  handler: async (options) => {
    const ending = new AbortController();
    const end = () => ending.abort();
    process.once('SIGINT', end).once('SIGTERM', end);
    const log = (line: string) => void process.stderr.write(`${line}\n`);
    try {
      await runStorageEmulator(options, ending.signal, log);
    } catch (error) {
      const failure = toVproxyError(error);
      log(`vproxy storage-emulator: ${failure.message}`);
      process.exitCode = failure.row.exit;
    } finally {
      process.off('SIGINT', end).off('SIGTERM', end);
    }
  },
};

function parseAddress(option: string, lowestPort: 0 | 1, text: string): ListenAddress {
  if (text.startsWith('/')) return { path: text };
  try {
    return parseHostPort(text, lowestPort);
  } catch (cause) {
    const message = `${option} takes ADDR:PORT or an absolute path: ${toVproxyError(cause).message}`;
    throw new VproxyError('bad-argument', message, { cause });
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
