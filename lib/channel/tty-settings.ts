/** The settings of a terminal line, through stty(1): Node's own raw mode leaves output processing on, which adds bytes. */
import { execFile, spawnSync } from 'node:child_process';
import { systemCode, VproxyError } from '../errors.js';
import { escapeText } from '../util/escape.js';
import { atExit } from './at-exit.js';

/** Settings that are in force until they are restored. */
export interface TtySettings {
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
export async function setRaw(device: string, baud: number | null, description: string): Promise<TtySettings> {
  const saved = (await stty(device, ['-g'], description)).trim();
  const cancelAtExit = atExit(() => {
    spawnSync('stty', ['-F', device, saved], { stdio: 'ignore', timeout: RESTORE_TIMEOUT_MS, killSignal: 'SIGKILL' });
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
function stty(
  device: string,
  words: readonly string[],
  description: string,
  timeout = SET_TIMEOUT_MS,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { timeout, killSignal: 'SIGKILL' } as const;
    execFile('stty', ['-F', device, ...words], options, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(sttyError(description, error, stderr));
    });
  });
}

function sttyError(description: string, error: Error, stderr: string): VproxyError {
  if (systemCode(error) === 'ENOENT') {
    return new VproxyError('channel-unusable', `${description}: stty(1) is missing, which makes the line raw`);
  }
  const said = escapeText(stderr.trim().replace(/\s+/g, ' '));
  const what = said === '' ? 'stty did not answer in time' : said;
  return new VproxyError('channel-failed', `${description}: ${what}`, { cause: error });
}
