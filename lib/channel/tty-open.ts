/** `tty-open:PATH[,baud=N]`: a serial line, such as the guest's end of an emulated UART. */

import { closeSync, constants, fstatSync, openSync, realpathSync, type Stats, statSync } from 'node:fs';
import path from 'node:path';
import tty from 'node:tty';
import { systemCode, VproxyError } from '../errors.js';
import { openDeviceLink } from '../link/device-link.js';
import { channelError, openingCancelled, requireWanted } from '../link/link.js';
import { REMEDIES } from '../remedies.js';
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
import { formatPath, parsePath } from '../util/addresses/paths.js';
import { type Clock, systemClock } from '../util/clock.js';
import { escapeText } from '../util/escape.js';
import { orElse } from '../util/or-else.js';
import { type DialKind, type OptionFor, VM_TRAITS } from './kind.js';

export interface TtyAddress {
  readonly path: string;
  /** Bits per second; null leaves the speed of the line unchanged. */
  readonly baud: number | null;
}

/** The speeds that Linux supports. */
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

/** Creates the kind `tty-open`; `sys` is the sysfs mount point, and `clock` has the deadlines of stty(1). */
export function ttyKind(sys = '/sys', clock: Clock = systemClock): DialKind<TtyAddress> {
  return {
    mode: 'dial',
    // 4096 bytes take 0.36 s at 115,200 baud, and a keystroke may wait behind them.
    traits: { ...VM_TRAITS, frameBytes: 4096, inFlightBytes: 4096, integrity: 'full' },
    leadsToHost(address) {
      const isLine = orElse(false, () => isSerialLine(statSync(address.path)));
      TO_HOST.set(address, isLine);
      return isLine;
    },
    options: new Map([['baud', baudOption]]),
    parse: (text) => ({ path: parsePath(text), baud: null }),
    format: (address) => formatPath(address.path),
    place: ({ path: device }) => canonicalPath(device),
    locate: ({ path: device }) => ({ is: 'serial-line', path: device }),
    async dial(address, { signal }) {
      const { path: device, baud } = address;
      const description = `tty-open:${escapeText(device)}`;
      try {
        requireWanted(signal, description);
        checkDevice(device, sys, description);
        const line = await openRaw(device, baud, description, clock);
        if (TO_HOST.get(address) === true && !isSerialLine(fstatSync(line.fd))) {
          closeSync(line.fd);
          await line.release();
          throw unusable(description, 'a pseudo-terminal took the place of the serial line: its peer is not the host');
        }
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

/** Whether the device of an address led to the host when this was last asked: another one may be opened later. */
const TO_HOST = new WeakMap<TtyAddress, boolean>();

/** Major numbers of pseudo-terminals, whose other end is a program of this machine, and of devices that may stand for one. */
const PSEUDO_MAJORS = [2, 3, 5, 136, 137, 138, 139, 140, 141, 142, 143];

const isSerialLine = (stats: Stats): boolean =>
  stats.isCharacterDevice() && !PSEUDO_MAJORS.includes((stats.rdev >> 8) & 0xfff);

/** Rejects what must not even be opened: opening some devices has side effects. */
function checkDevice(device: string, sys: string, description: string): void {
  if (!statSync(device).isCharacterDevice()) throw unusable(description, 'not a device');
  const name = path.basename(realpathSync(device));
  if (!activeConsoles(sys).includes(name)) return;
  throw unusable(description, `the kernel writes its own messages to the console ${name}`);
}

function openTerminal(device: string, description: string): number {
  const fd = openSync(device, constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOCTTY);
  if (tty.isatty(fd)) return fd;
  closeSync(fd);
  throw unusable(description, 'not a terminal');
}

function unusable(description: string, why: string): VproxyError {
  return new VproxyError('channel-unusable', `${description}: ${why}`);
}

/** The names of the kernel's consoles (`console=ttyS0`). */
export function activeConsoles(sys: string): string[] {
  return readText(path.join(sys, 'class/tty/console/active')).split(/\s+/);
}

/** Reading or opening a pseudo-terminal fails this way once its other side is closed. */
function isHungUp(error: unknown): boolean {
  return systemCode(error) === 'EIO';
}

function hungUp(description: string, cause: unknown): VproxyError {
  return new VproxyError('channel-closed', `${description} was hung up by its other end`, { cause });
}

/** A line in raw mode, kept open until it is released. */
interface RawLine {
  /** For a link, which closes it itself. */
  readonly fd: number;
  /**
   * Call after the link has closed its descriptor: waits for the output and restores the settings. Gives up on output that
   * the line does not send, and on settings that cannot be restored. Never rejects.
   */
  release(): Promise<void>;
}

/** Arguments for stty(1). Node's own raw mode leaves output processing on, which adds bytes. */
const RAW = ['raw', '-echo', '-iexten', '-ixon', 'cs8', '-parenb', 'clocal', '-hupcl'];

/**
 * Output not sent after this time counts as blocked. The peer's HELLO can block a line that is not raw yet: the line echoes
 * it, and the XOFF in it stops the line.
 */
const HELD_UP_MS = 5000;

/** A blocked line is not hung up again after this time. */
const SET_TIMEOUT_MS = 10_000;

/** The most that the exit of the process waits. */
const RESTORE_TIMEOUT_MS = 1000;

/**
 * Opens `device` 8-bit clean, ignoring modem signals, and without a hang-up on close; `baud` null leaves its speed. The
 * previous settings are restored by `release`, or when the process exits. Rejects with `channel-closed`, `channel-failed` or,
 * if stty is missing or this is not a terminal, `channel-unusable`.
 */
async function openRaw(device: string, baud: number | null, description: string, clock: Clock): Promise<RawLine> {
  const stty = (words: readonly string[], options?: Pick<ToolLimits, 'hasOwnSession'>) =>
    runStty(device, words, description, { timeoutMs: HELD_UP_MS, clock, ...options });
  // Closing the last descriptor blocks in the kernel, up to 30 s, until everything is sent. It is this one, not the link's.
  let keeper = openTerminal(device, description);

  /** Discards what the line holds, for everyone who has it open: stty makes it its controlling terminal, and exits. */
  async function hangUp(): Promise<void> {
    await stty(['-g'], { hasOwnSession: true });
    const next = openTerminal(device, description);
    closeSync(keeper);
    keeper = next;
  }

  /** Runs stty, which waits until all output is sent, and so hangs on a blocked line. */
  async function set(words: readonly string[]): Promise<void> {
    const deadline = clock.now() + SET_TIMEOUT_MS;
    let result = await stty(words);
    while (result.end === 'too-slow' && clock.now() < deadline) {
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
    // While it is open, no other device gets its path: that of a pseudo-terminal is reused.
    if (saved !== null) await stty([saved]).catch(() => undefined);
    closeSync(keeper);
    cancelAtExit();
  };
  let releasing: Promise<void> | null = null;
  const line = { release: () => (releasing ??= release().catch(() => undefined)) };
  try {
    saved = checkStty(await stty(['-g']), description).trim();
    const restored = saved;
    cancelAtExit = atExit(() => {
      // A blocked line would also block the exit of the process.
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
  limits: ToolLimits,
): Promise<ToolResult> {
  return runTool(['stty', '-F', device, ...words], { hasOwnSession: false, ...limits }).catch((cause: unknown) => {
    if (systemCode(cause) !== 'ENOENT') throw channelError(description, cause);
    const missing = `${description}: stty(1) is missing, which sets the line raw; ${REMEDIES.stty['channel-unusable']}`;
    throw new VproxyError('channel-unusable', missing, { cause });
  });
}

/** Returns the output of stty; throws if it failed. */
function checkStty(result: ToolResult, description: string): string {
  if (result.end === 0) return result.stdout;
  throw new VproxyError('channel-failed', `${description}: ${escapeText(describeToolFailure('stty', result))}`);
}
