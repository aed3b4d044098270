/** `vproxy copy`: copies files and folders to or from the peer of a channel. */
import type { Duplex } from 'node:stream';
import { isatty } from 'node:tty';
import { VproxyError } from '../../lib/errors.js';
import { makeEvent } from '../../lib/events.js';
import {
  type CopyReport,
  explainRefusal,
  fetchFiles,
  outcomeOf,
  putFiles,
  reportOften,
} from '../../lib/services/copy/copy-call.js';
import { COPY_SERVICE } from '../../lib/services/copy/copy-messages.js';
import { CopyProgress } from '../../lib/services/copy/copy-progress.js';
import { escapeText, formatJson } from '../../lib/util/escape.js';
import { isLabel } from '../../lib/util/labels.js';
import { type Arguments, badArgument } from '../command/arguments.js';
import type { Command } from '../command/command.js';
import { openService } from '../command/open-service.js';
import { Output } from '../run/output.js';
import { obeysEscapes } from '../ui/color.js';
import { print } from '../ui/print.js';
import { CopyDisplay, formatOutcome } from '../ui/progress.js';

export const command: Command = {
  usage: 'copy [--resume] [--discard] [--links keep|refuse] [--quiet] [--json [--progress]] SRC… DEST',
  about:
    'Copies files and folders, as in vproxy copy a.txt folder vm1:/srv/in, or vproxy copy vm1:/var/log/app ./logs. A path on the peer is LABEL:PATH, or :PATH if there is only one channel; without a leading slash it is relative to the home of the user there, which LABEL: alone stands for. The peer must allow copies with --allow-copy. Contents, permissions, times and links are kept; owners are not. An incomplete file never takes the place of the target: it stays next to it as .NAME.vproxy-part.',
  examples: [
    ['vproxy copy a.txt folder vm1:/srv/in', 'To vm1'],
    ['vproxy copy vm1:/var/log/app ./logs', 'From vm1'],
    ['vproxy copy --resume image.raw vm1:/srv/image.raw', 'Resume an interrupted copy'],
  ],
  options: {
    resume: { describe: 'Resume an interrupted copy, after comparing what it left' },
    links: {
      value: 'keep|refuse',
      describe: 'Links that point outside the copied tree: keep them as they are, or refuse the copy [default: refuse]',
    },
    recursive: { short: 'r', describe: 'Copy folders with their contents; always on' },
    archive: { short: 'a', describe: 'Keep permissions, times and links; always on' },
    preserve: { short: 'p', describe: 'The same' },
    verbose: { short: 'v', describe: 'Show the progress, as in a terminal; always on', isHidden: true },
    discard: { describe: 'If interrupted, remove what has arrived, instead of keeping it for --resume' },
    quiet: { short: 'q', describe: 'Show no progress' },
    json: {
      describe: 'Print what was copied as JSON; with --resume preceded by lines with the progress of the comparison',
    },
    progress: { describe: 'With --json: before that, print lines with the progress, at most ten a second' },
  },
  operands: ['SRC…', 'DEST'],
  foreign: {
    '-P': 'an interrupted copy is resumed with --resume',
    '-l': 'links that point outside the copied tree are copied with --links=keep',
    '--partial': 'an interrupted copy is resumed with --resume',
  },
  run: copy,
};

const STDERR_FD = 2;

/** The exit status after a signal: 128 plus its number. */
const SIGNALS = { SIGINT: 130, SIGTERM: 143 } as const;

async function copy(args: Arguments): Promise<number> {
  const { direction, label, sources, target } = parseCopyPaths(args.operands);
  const keepsLinks = readLinks(args) === 'keep';
  const isShown = isatty(STDERR_FD) && !args.has('quiet');
  const progress = new CopyProgress();
  if (args.has('progress') && !args.has('json')) throw badArgument('--progress: only with --json');
  if (args.has('json') && args.has('resume') && !args.has('progress')) printComparison(progress);
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
  const display = isShown && obeysEscapes({ isTTY: true }) ? new CopyDisplay(progress) : null;
  const printReport = (told: CopyReport) => print(`${formatJson({ progress: told })}\n`);
  const report = args.has('progress') ? reportOften(progress, printReport) : null;
  try {
    const targets = await (direction === 'put' ? putFiles : fetchFiles)(sources, target, {
      open: () => (display === null ? openCopy(args, label) : display.yieldTo(openCopy(args, label))),
      isResumed: args.has('resume'),
      keepsPart: !args.has('discard'),
      keepsLinks,
      hasTotals: display !== null || report !== null,
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
    report?.();
    if (args.has('json')) print(`${formatJson(outcomeOf(progress, startedAtMs, targets, warnings))}\n`);
    return 0;
  } catch (error) {
    display?.stop();
    const hint = progress.isResumable ? '; what has arrived is kept, continue with --resume' : '';
    if (status === 0) throw withHint(error, hint);
    output.log(makeEvent('copy', `copy interrupted${hint}`, {}));
    return status;
  }
}

function readLinks(args: Arguments): string {
  const text = args.text('links') ?? 'refuse';
  if (text === 'keep' || text === 'refuse') return text;
  throw badArgument(`--links: "${escapeText(text, 64)}" is not valid; expected keep or refuse`);
}

/** The interval between lines about a comparison, in milliseconds. */
const COMPARISON_LINE_MS = 1000;

/** Prints a line when a side begins to compare, at intervals, and when it is done. */
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
  const request = {
    socket: args.text('socket'),
    name: args.text('name'),
    service: COPY_SERVICE,
    channel: label,
    isQuiet: args.has('quiet'),
  };
  try {
    return await openService(request);
  } catch (error) {
    throw explainRefusal(error);
  }
}

function withHint(error: unknown, hint: string): unknown {
  if (hint === '' || !(error instanceof VproxyError)) return error;
  return new VproxyError(error.code, error.message + hint, { cause: error });
}

/** Parses `SRC… DEST`. A path with a colon before any slash is on the peer. Throws `bad-argument`. */
function parseCopyPaths(operands: readonly string[]) {
  const sources = operands.slice(0, -1).map(parsePath);
  const target = parsePath(operands.at(-1) ?? '');
  const remote = sources.filter(({ isRemote }) => isRemote);
  const [first] = remote;
  if (first !== undefined && target.isRemote) throw badArgument('both sides are remote; one of them must be local');
  if (first === undefined && !target.isRemote) {
    throw badArgument('neither side is remote; a path on the peer is written LABEL:PATH, or :PATH');
  }
  if (first !== undefined && remote.length < sources.length)
    throw badArgument('some sources are local and some remote; copy them separately');
  if (remote.some(({ label }) => label !== first?.label)) throw badArgument('the sources are on several channels');
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
  if (text === '') throw badArgument('empty path');
  const colon = /^[^/:]*:/.exec(text)?.[0];
  if (colon === undefined) return { isRemote: false, label: undefined, path: text };
  const label = colon.slice(0, -1);
  const shown = escapeText(text, 128);
  if (label !== '' && !isLabel(label)) {
    throw badArgument(`"${shown}": not a valid channel label before the colon; for a local file write ./${shown}`);
  }
  return { isRemote: true, label: label || undefined, path: text.slice(colon.length) };
}
