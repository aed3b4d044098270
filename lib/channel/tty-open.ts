/** `tty-open:PATH[,baud=N]`: a serial line, such as the guest's end of an emulated UART. */

import { closeSync, constants, openSync, readFileSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import tty from 'node:tty';
import { systemCode, VproxyError } from '../errors.js';
import { openDeviceLink } from '../link/device-link.js';
import { channelError, openingCancelled, requireWanted } from '../link/link.js';
import { atExit } from '../system/children.js';
import { describeToolFailure, runTool, runToolNow, type ToolResult } from '../system/run-tool.js';
import { formatPath, parsePath } from '../util/addresses.js';
import { systemClock } from '../util/clock.js';
import { escapeText } from '../util/escape.js';
import { type DialKind, type KindOption, VM_TRAITS } from './kind.js';

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

const baudOption: KindOption<TtyAddress> = {
  parse: (value, address) => {
    const baud = BAUDS.find((known) => String(known) === value);
    return baud === undefined ? null : { ...address, baud };
  },
  format: ({ baud }) => (baud === null ? null : String(baud)),
  expected: `one of ${BAUDS.join(', ')}`,
};

/** The kind `tty-open`, with what the system says of its devices in `sys` (default `/sys`). */
export function ttyKind(sys = '/sys'): DialKind<TtyAddress> {
  return {
    mode: 'dial',
    // 4096 bytes take 0.36 s at 115,200 baud, and a keystroke may have to wait behind them.
    traits: { ...VM_TRAITS, frameBytes: 4096, inFlightBytes: 4096, outlivesRestart: true, leadsToHost: true },
    options: new Map([['baud', baudOption]]),
    parse: (text) => ({ path: parsePath(text), baud: null }),
    format: (address) => formatPath(address.path),
    async dial({ path: device, baud }, { signal }) {
      const description = `tty-open:${escapeText(device)}`;
      try {
        requireWanted(signal, description);
        const fd = openTerminal(device, sys, description);
        const settings = await setRaw(device, baud, description).catch((error: unknown) => {
          closeSync(fd);
          throw error;
        });
        const link = openDeviceLink(description, fd, null, systemClock).beforeClosed(async (reason) => {
          await settings.restore();
          return isHungUp(reason.cause) ? hungUp(description, reason.cause) : reason;
        });
        if (!signal.aborted) return link;
        link.destroy();
        await settings.restore();
        throw openingCancelled(description);
      } catch (error) {
        throw isHungUp(error) ? hungUp(description, error) : channelError(description, error);
      }
    },
  };
}

export const ttyOpen: DialKind<TtyAddress> = ttyKind();

/** A descriptor of the terminal. It looks before it opens: opening some devices does something. */
function openTerminal(device: string, sys: string, description: string): number {
  const unusable = (why: string) => new VproxyError('channel-unusable', `${description}: ${why}`);
  if (!statSync(device).isCharacterDevice()) throw unusable('it is not a device');
  const name = path.basename(realpathSync(device));
  if (activeConsoles(sys).includes(name)) throw unusable(`the kernel writes its own messages to the console ${name}`);
  const fd = openSync(device, constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOCTTY);
  if (tty.isatty(fd)) return fd;
  closeSync(fd);
  throw unusable('it is not a terminal line');
}

/** The consoles that the kernel was given (`console=ttyS0`), by their names. */
function activeConsoles(sys: string): string[] {
  try {
    return readFileSync(path.join(sys, 'class/tty/console/active'), 'utf8').split(/\s+/);
  } catch {
    return [];
  }
}

/** A pseudo-terminal whose other side is closed reads and opens so. */
function isHungUp(error: unknown): boolean {
  return systemCode(error) === 'EIO';
}

function hungUp(description: string, cause: unknown): VproxyError {
  return new VproxyError('channel-closed', `${description} was hung up by its other end`, { cause });
}

// The settings of a terminal line, through stty(1): Node's own raw mode leaves output processing on, which adds bytes.

/** Settings that are in force until they are restored. */
interface TtySettings {
  /** Puts back what was there before, once; what cannot be put back is left. Never rejects. */
  restore(): Promise<void>;
}

/** stty waits until what was written is sent, which a line that is held up may never be. */
const SET_TIMEOUT_MS = 5000;

/** The end of the process does not wait for longer. */
const RESTORE_TIMEOUT_MS = 1000;

/**
 * Makes the line of `device` 8-bit clean, deaf to modem signals, and not hung up when it is closed; `baud` null leaves
 * its speed. They are restored by `restore`, or when the process exits. Rejects with `channel-closed`, `channel-failed`
 * or, where stty is missing, `channel-unusable`.
 */
async function setRaw(device: string, baud: number | null, description: string): Promise<TtySettings> {
  const saved = (await stty(device, ['-g'], description)).trim();
  const cancelAtExit = atExit(() => {
    runToolNow(['stty', '-F', device, saved], { timeoutMs: RESTORE_TIMEOUT_MS });
  });
  let restoring: Promise<void> | null = null;
  const restore = async () => {
    await stty(device, [saved], description, RESTORE_TIMEOUT_MS).catch(() => undefined);
    cancelAtExit();
  };
  const settings: TtySettings = { restore: () => (restoring ??= restore()) };
  const speed = baud === null ? [] : [String(baud)];
  try {
    await stty(device, [...RAW, ...speed], description);
    return settings;
  } catch (error) {
    await settings.restore();
    throw error;
  }
}

const RAW = ['raw', '-echo', '-iexten', '-ixon', 'cs8', '-parenb', 'clocal', '-hupcl'];

/** What stty says about `device`. */
async function stty(
  device: string,
  words: readonly string[],
  description: string,
  timeoutMs = SET_TIMEOUT_MS,
): Promise<string> {
  let result: ToolResult;
  try {
    result = await runTool(['stty', '-F', device, ...words], { timeoutMs, hasOwnSession: false });
  } catch (cause) {
    if (systemCode(cause) !== 'ENOENT') throw channelError(description, cause);
    const missing = `${description}: stty(1) is missing, which makes the line raw`;
    throw new VproxyError('channel-unusable', missing, { cause });
  }
  if (result.end === 0) return result.stdout;
  throw new VproxyError('channel-failed', `${description}: ${escapeText(describeToolFailure('stty', result))}`);
}
