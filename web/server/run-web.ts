/** Runs `vproxy web` until it is told to end. A program of its own: the command loads it from the folder of the page. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { listProcesses } from '../../cli/command/list-processes.js';
import { controlFolders, listControlSockets } from '../../cli/control-folders.js';
import { systemCode, VproxyError } from '../../lib/errors.js';
import type { ListenAddress } from '../../lib/system/sockets/listen-address.js';
import { systemClock } from '../../lib/util/clock.js';
import { describeError, escapeText } from '../../lib/util/escape.js';
import { Machines } from './machines.js';
import { listRecordings } from './recordings.js';
import { WebServer } from './web-server.js';

export interface WebOptions {
  readonly address: ListenAddress;
  /** The folder with the files of the page. */
  readonly assets: string;
  readonly isReadOnly: boolean;
  /** The folder of recordings to play; null: none. */
  readonly recordings: string | null;
  /** The paths of a certificate and its key; null: no TLS. */
  readonly tls: { readonly cert: string; readonly key: string } | null;
  /** The control sockets to show; none: those of all processes that can be found. */
  readonly sockets: readonly string[];
  /** A control socket besides those in the usual folders, such as `$VPROXY_SOCKET`; null: none. */
  readonly socket: string | null;
  readonly isRoot: boolean;
  readonly runtimeDirectory: string | null;
  /** Whether to open the link in a browser. */
  readonly isOpened: boolean;
  /** Ends it. */
  readonly signal: AbortSignal;
  /** Called with the link, when it can be opened. */
  readonly onReady: (link: string) => void;
}

/** How often processes are looked for that have their sockets elsewhere, in milliseconds. */
const SEARCH_MS = 60_000;

/** Rejects with `address-…` codes, and with `bad-file` or `not-found` if a file or folder cannot be read. */
export async function runWeb(options: WebOptions): Promise<void> {
  const { address, assets, isReadOnly, recordings, isOpened, tls, signal, onReady } = options;
  if (recordings !== null) await listRecordings(recordings);
  const machines = new Machines({ find: finderOf(options), clock: systemClock });
  const pem = tls === null ? null : { cert: readPem(tls.cert), key: readPem(tls.key) };
  const server = new WebServer({ machines, address, assets, isReadOnly, recordings, tls: pem });
  let folder: string | null = null;
  try {
    const link = await server.listen();
    onReady(link);
    if (isOpened) folder = openLink(link);
    void machines.start();
    await new Promise<void>((resolve) => {
      signal.addEventListener('abort', () => resolve());
      if (signal.aborted) resolve();
    });
  } finally {
    machines.stop();
    if (folder !== null) rmSync(folder, { recursive: true, force: true });
    await server.close();
  }
}

/** Folders are listed each time; the search through /proc takes longer, and finds few more. */
function finderOf({ sockets, ...place }: Pick<WebOptions, 'sockets' | 'socket' | 'isRoot' | 'runtimeDirectory'>) {
  if (sockets.length > 0) return () => Promise.resolve(sockets);
  let others: readonly string[] = [];
  let searchedAtMs = Number.NEGATIVE_INFINITY;
  return async (): Promise<string[]> => {
    const nowMs = systemClock.now();
    if (nowMs - searchedAtMs >= SEARCH_MS) {
      searchedAtMs = nowMs;
      others = (await listProcesses(place)).flatMap(({ socket }) => socket ?? []);
    }
    return [...new Set([...controlFolders(place).flatMap(listControlSockets), ...others])];
  };
}

/**
 * Opens a file that leads to the link: every user of this machine can read the words of a command. Returns the folder of that
 * file.
 */
function openLink(link: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'vproxy-web-'));
  const file = join(folder, 'open.html');
  writeFileSync(file, `<!doctype html><meta http-equiv="refresh" content="0;url=${link}">\n`, { mode: 0o600 });
  const child = spawn('xdg-open', [file], { stdio: 'ignore', detached: true });
  child.on('error', (error) => void process.stderr.write(`vproxy: cannot run xdg-open: ${describeError(error)}\n`));
  child.unref();
  return folder;
}

function readPem(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    const reason = systemCode(cause) === '' ? String(cause) : describeError(cause);
    throw new VproxyError('bad-file', `cannot read ${escapeText(path)}: ${reason}`, { cause });
  }
}
