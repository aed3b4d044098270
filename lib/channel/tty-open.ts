/** `tty-open:PATH[,baud=N]`: a serial line, such as the guest's end of an emulated UART. */

import { closeSync, constants, openSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import tty from 'node:tty';
import { systemCode, VproxyError } from '../errors.js';
import { openDeviceLink } from '../link/device-link.js';
import { channelError, openingCancelled, requireWanted } from '../link/link.js';
import { canonicalPath } from '../system/files/guarded-files.js';
import { readText } from '../system/files/optional-files.js';
import { atExit } from '../system/processes/children.js';
import {
  describeToolFailure,
  runTool,
  runToolNow,
  type ToolLimits,
  type ToolResult,
} from '../system/processes/run-tool.js';
import { formatPath, parsePath } from '../util/addresses.js';
import { systemClock } from '../util/clock.js';
import { escapeText } from '../util/escape.js';
import { type DialKind, type OptionFor, VM_TRAITS } from './kind.js';

/** A serial line. */
export interface TtyAddress {
  readonly path: string;
  /** Bits per second; null leaves what the line has. */
  readonly baud: number | null;
}

/** Speeds that Linux knows. */
const BAUDS = [
  300, 600, 1200, 1800, 2400, 4800, 9600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800, 500_000, 576_000, 921_600,
  1_000_000, 1_152_000, 1_500_000, 2_000_000, 2_500_000, 3_000_000, 3_500_000, 4_000_000,
];

const baudOption: OptionFor<TtyAddress> = {
  field: 'baud',
  type: {
    parse: (text) => BAUDS.find((known) => String(known) === text) ?? null,
    format: String,
    expected: `one of ${BAUDS.join(', ')}`,
  },
};

/** The kind `tty-open`, with what the system says of its devices in `sys` (default `/sys`). */
export function ttyKind(sys = '/sys'): DialKind<TtyAddress> {
  return {
    mode: 'dial',
    // 4096 bytes take 0.36 s at 115,200 baud, and a keystroke may have to wait behind them.
    traits: { ...VM_TRAITS, frameBytes: 4096, inFlightBytes: 4096, integrity: 'full', leadsToHost: true },
    options: new Map([['baud', baudOption]]),
    parse: (text) => ({ path: parsePath(text), baud: null }),
    format: (address) => formatPath(address.path),
    place: ({ path: device }, folder) => canonicalPath(device, folder),
    locate: ({ path: device }) => ({ is: 'serial-line', path: device }),
    async dial({ path: device, baud }, { signal }) {
      const description = `tty-open:${escapeText(device)}`;
      try {
        requireWanted(signal, description);
        checkDevice(device, sys, description);
        const line = await openRaw(device, baud, description);
        const link = openDeviceLink(description, line.fd, null, systemClock).beforeClosed(async (reason) => {
          await line.release();
          return isHungUp(reason.cause) ? hungUp(description, reason.cause) : reason;
        });
        if (!signal.aborted) return link;
        link.destroy();
        await line.release();
        throw openingCancelled(description);
      } catch (error) {
        throw isHungUp(error) ? hungUp(description, error) : channelError(description, error);
      }
    },
  };
}

export const ttyOpen: DialKind<TtyAddress> = ttyKind();

/** Refuses what is not to be opened at all: opening some devices does something. */
function checkDevice(device: string, sys: string, description: string): void {
  if (!statSync(device).isCharacterDevice()) throw unusable(description, 'it is not a device');
  const name = path.basename(realpathSync(device));
  if (!activeConsoles(sys).includes(name)) return;
  throw unusable(description, `the kernel writes its own messages to the console ${name}`);
}

/** A descriptor of the terminal. */
function openTerminal(device: string, description: string): number {
  const fd = openSync(device, constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOCTTY);
  if (tty.isatty(fd)) return fd;
  closeSync(fd);
  throw unusable(description, 'it is not a terminal line');
}

function unusable(description: string, why: string): VproxyError {
  return new VproxyError('channel-unusable', `${description}: ${why}`);
}

/** The consoles that the kernel was given (`console=ttyS0`), by their names. */
export function activeConsoles(sys: string): string[] {
  return readText(path.join(sys, 'class/tty/console/active')).split(/\s+/);
}

/** A pseudo-terminal whose other side is closed reads and opens so. */
function isHungUp(error: unknown): boolean {
  return systemCode(error) === 'EIO';
}

function hungUp(description: string, cause: unknown): VproxyError {
  return new VproxyError('channel-closed', `${description} was hung up by its other end`, { cause });
}

/** A line that is raw, and stays open, until it is released. */
interface RawLine {
  /** For a link, which closes it. */
  readonly fd: number;
  /**
   * Once the link has closed its descriptor: waits for what it has written, and puts the settings back. What the line does
   * not send, and settings that cannot be put back, are left. Never rejects.
   */
  release(): Promise<void>;
}

/** Node's own raw mode leaves output processing on, which adds bytes; so stty(1) makes the line raw. */
const RAW = ['raw', '-echo', '-iexten', '-ixon', 'cs8', '-parenb', 'clocal', '-hupcl'];

/**
 * Output of a line that is not sent after this time is held up. The peer's HELLO does that to one that is not raw yet: the
 * line echoes it, and is stopped by the XOFF in it.
 */
const HELD_UP_MS = 5000;

/** A line is not hung up again after this time. */
const SET_TIMEOUT_MS = 10_000;

/** The end of the process does not wait for longer. */
const RESTORE_TIMEOUT_MS = 1000;

/**
 * Opens `device` 8-bit clean, deaf to modem signals, and not hung up when it is closed; `baud` null leaves its speed. What
 * was set before is put back by `release`, or when the process exits. Rejects with `channel-closed`, `channel-failed` or,
 * where stty is missing or this is no terminal, `channel-unusable`.
 */
async function openRaw(device: string, baud: number | null, description: string): Promise<RawLine> {
  const stty = (words: readonly string[], options?: Pick<ToolLimits, 'hasOwnSession'>) =>
    runStty(device, words, description, options);
  // The last descriptor that is closed waits in the kernel, up to 30 s, until all is sent. It is this one, not that of a link.
  let keeper = openTerminal(device, description);

  /** Throws away what the line holds, as for all who have it open: stty takes it as the terminal of a session, and ends. */
  async function hangUp(): Promise<void> {
    await stty(['-g'], { hasOwnSession: true });
    const next = openTerminal(device, description);
    closeSync(keeper);
    keeper = next;
  }

  /** stty waits until what was written before is sent, and so does not come to an end on a line that is held up. */
  async function set(words: readonly string[]): Promise<void> {
    const deadline = systemClock.now() + SET_TIMEOUT_MS;
    let result = await stty(words);
    while (result.end === 'too-slow' && systemClock.now() < deadline) {
      await hangUp();
      result = await stty(words);
    }
    checkStty(result, description);
  }

  let cancelAtExit: () => void = () => undefined;
  let saved: string | null = null;
  const release = async () => {
    const isHeldUp = saved !== null && (await stty(RAW).catch(() => null))?.end === 'too-slow';
    if (isHeldUp) await hangUp().catch(() => undefined);
    closeSync(keeper);
    if (saved !== null) await stty([saved]);
    cancelAtExit();
  };
  let releasing: Promise<void> | null = null;
  const line = { release: () => (releasing ??= release().catch(() => undefined)) };
  try {
    saved = checkStty(await stty(['-g']), description).trim();
    const restored = saved;
    cancelAtExit = atExit(() => {
      // What is held up now would hold up the end of the process as well.
      runToolNow(['setsid', 'stty', '-F', device, '-g'], { timeoutMs: RESTORE_TIMEOUT_MS });
      runToolNow(['stty', '-F', device, restored], { timeoutMs: RESTORE_TIMEOUT_MS });
    });
    await set(baud === null ? RAW : [...RAW, String(baud)]);
    return { ...line, fd: openTerminal(device, description) };
  } catch (error) {
    await line.release();
    throw error;
  }
}

function runStty(
  device: string,
  words: readonly string[],
  description: string,
  { hasOwnSession = false }: Pick<ToolLimits, 'hasOwnSession'> = {},
): Promise<ToolResult> {
  return runTool(['stty', '-F', device, ...words], { timeoutMs: HELD_UP_MS, hasOwnSession }).catch((cause: unknown) => {
    if (systemCode(cause) !== 'ENOENT') throw channelError(description, cause);
    const missing = `${description}: stty(1) is missing, which makes the line raw`;
    throw new VproxyError('channel-unusable', missing, { cause });
  });
}

/** What stty printed; throws where it has failed. */
function checkStty(result: ToolResult, description: string): string {
  if (result.end === 0) return result.stdout;
  throw new VproxyError('channel-failed', `${description}: ${escapeText(describeToolFailure('stty', result))}`);
}
