/** `vproxy copy`: copies files and folders to the other side of a channel, or from it. */
import type { Duplex } from 'node:stream';
import { isatty } from 'node:tty';
import { fetchFiles, putFiles } from '../../lib/copy/copy-call.js';
import { COPY_SERVICE } from '../../lib/copy/copy-messages.js';
import { CopyProgress } from '../../lib/copy/copy-progress.js';
import { VproxyError } from '../../lib/errors.js';
import { makeEvent } from '../../lib/events.js';
import { escapeText, formatJson } from '../../lib/util/escape.js';
import { isLabel } from '../../lib/util/labels.js';
import { type Arguments, badArgument } from '../command/arguments.js';
import type { Command } from '../command/command.js';
import { openService } from '../command/open-service.js';
import { Output } from '../run/output.js';
import { print } from '../ui/print.js';
import { CopyDisplay, formatOutcome } from '../ui/progress.js';

export const command: Command = {
  usage: 'copy [--resume] [--quiet] [--json] SRC… DEST',
  about:
    'Copies files and folders, such as vproxy copy a.txt folder vm1:/srv/in, or vproxy copy vm1:/var/log/app ./logs. A path of the other side is LABEL:PATH, or :PATH where there is one channel; without a slash in front it begins in the home of the user there, and LABEL: alone is that. That side has to allow it with --allow-copy. Contents, permissions, times and links are kept; owners are not. What is not complete gets nowhere: it stays beside the target, as .NAME.vproxy-part.',
  examples: [
    ['vproxy copy a.txt folder vm1:/srv/in', 'To vm1'],
    ['vproxy copy vm1:/var/log/app ./logs', 'From vm1'],
    ['vproxy copy --resume image.raw vm1:/srv/image.raw', 'Go on with one that was broken off'],
  ],
  options: {
    resume: { describe: 'Go on with what a copy that was broken off has left, after a comparison' },
    recursive: { short: 'r', describe: 'Copy folders with all that is in them, as is done without it' },
    quiet: { short: 'q', describe: 'Show no progress' },
    json: { describe: 'Print what was copied, as JSON; with --resume, lines before it of how far it compares' },
  },
  operands: ['SRC…', 'DEST'],
  run: copy,
};

const STDERR_FD = 2;

/** A process that a signal ends has 128 and its number as its status. */
const SIGNALS = { SIGINT: 130, SIGTERM: 143 } as const;

async function copy(args: Arguments): Promise<number> {
  const { direction, label, sources, target } = parseCopyPaths(args.operands);
  const isShown = isatty(STDERR_FD) && !args.has('quiet');
  const progress = new CopyProgress();
  if (args.has('json') && args.has('resume')) printComparison(progress);
  const breakOff = new AbortController();
  let status = 0;
  for (const [name, code] of Object.entries(SIGNALS)) {
    process.once(name, () => {
      status = code;
      breakOff.abort();
    });
  }
  const output = new Output();
  const warnings: string[] = [];
  const startedAtMs = performance.now();
  const display = isShown ? new CopyDisplay(progress) : null;
  try {
    const targets = await (direction === 'put' ? putFiles : fetchFiles)(sources, target, {
      open: () => (display === null ? openCopy(args, label) : display.holdFor(openCopy(args, label))),
      isResumed: args.has('resume'),
      hasTotals: isShown,
      progress,
      warn(message) {
        display?.clear();
        warnings.push(message);
        output.log(makeEvent('copy', message, {}));
      },
      signal: breakOff.signal,
    });
    display?.stop();
    const durationMs = performance.now() - startedAtMs;
    if (isShown || (args.has('resume') && !args.has('quiet'))) {
      process.stderr.write(`${formatOutcome(progress, durationMs)}\n`);
    }
    if (args.has('json')) {
      const { files, folders, links, bytes, sentBytes, resumedBytes } = progress;
      const facts = { files, folders, links, bytes, sentBytes, resumedBytes, durationMs: Math.round(durationMs) };
      print(`${formatJson({ ...facts, targets, warnings })}\n`);
    }
    return 0;
  } catch (error) {
    display?.stop();
    const hint = progress.isResumable ? '; what has come is kept, and --resume goes on with it' : '';
    if (status === 0) throw withHint(error, hint);
    output.log(makeEvent('copy', `the copy was broken off${hint}`, {}));
    return status;
  }
}

/** How often a line says how far a comparison is, in milliseconds. */
const COMPARISON_LINE_MS = 1000;

/** Prints a line when a side begins to compare, when it has read all, and in between. */
function printComparison(progress: CopyProgress): void {
  let side = '';
  let printedAtMs = 0;
  progress.onComparison = (comparison) => {
    const now = performance.now();
    const isDone = comparison.bytes >= comparison.totalBytes;
    if (comparison.side === side && !isDone && now - printedAtMs < COMPARISON_LINE_MS) return;
    side = comparison.side;
    printedAtMs = now;
    print(`${formatJson({ comparing: comparison })}\n`);
  };
}

async function openCopy(args: Arguments, label: string | undefined): Promise<Duplex> {
  const request = { socket: args.text('socket'), name: args.text('name'), service: COPY_SERVICE, channel: label };
  try {
    return await openService(request);
  } catch (error) {
    if (!(error instanceof VproxyError) || !REFUSALS.has(error.code)) throw error;
    const message = 'the other side does not let files be copied; vproxy has to run with --allow-copy there';
    throw new VproxyError('denied', message, { cause: error });
  }
}

/** What a peer answers that has no such service, or not for this side. */
const REFUSALS: ReadonlySet<string> = new Set(['unknown-service', 'denied']);

function withHint(error: unknown, hint: string): unknown {
  if (hint === '' || !(error instanceof VproxyError)) return error;
  return new VproxyError(error.code, error.message + hint, { cause: error });
}

/** What `SRC… DEST` means. A colon before any slash makes a path one of the other side. Throws `bad-argument`. */
function parseCopyPaths(operands: readonly string[]) {
  const sources = operands.slice(0, -1).map(parsePath);
  const target = parsePath(operands.at(-1) ?? '');
  const remote = sources.filter(({ isRemote }) => isRemote);
  const [first] = remote;
  if (first !== undefined && target.isRemote)
    throw badArgument('both sides are remote; one of them has to be this machine');
  if (first === undefined && !target.isRemote) {
    throw badArgument('neither side is remote; a path behind a channel is written LABEL:PATH, or :PATH');
  }
  if (first !== undefined && remote.length < sources.length)
    throw badArgument('some of the sources are here, and some are not');
  if (remote.some(({ label }) => label !== first?.label)) throw badArgument('the sources are behind several channels');
  return {
    /** `put`: the sources are here. */
    direction: target.isRemote ? 'put' : 'get',
    /** The label of the channel; undefined: the only one. */
    label: (target.isRemote ? target : first)?.label,
    sources: sources.map(({ path }) => path),
    target: target.path,
  };
}

function parsePath(text: string) {
  if (text === '') throw badArgument('a path is empty');
  const colon = /^[^/:]*:/.exec(text)?.[0];
  if (colon === undefined) return { isRemote: false, label: undefined, path: text };
  const label = colon.slice(0, -1);
  const shown = escapeText(text, 128);
  if (label !== '' && !isLabel(label)) {
    throw badArgument(`"${shown}": what is before the colon is no label of a channel; a file here is ./${shown}`);
  }
  return { isRemote: true, label: label || undefined, path: text.slice(colon.length) };
}
