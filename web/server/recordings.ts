/** The recordings of terminals in a folder, which the page plays. */
import { constants } from 'node:fs';
import { lstat, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { systemCode, VproxyError } from '../../lib/errors.js';
import { CAST_ENDING } from '../../lib/services/exec/recording/asciicast.js';
import { describeError, escapeText } from '../../lib/util/escape.js';
import { MOST_LISTED, type RecordingsView } from '../views.js';

/** The time in the name of a recording: `LABEL-20261123T084512Z-24909c7c.cast`. */
const TIME = /-(\d{8}T\d{6}Z)-[^-]+$/;

/** The most that a browser is given; vproxy's own recordings have at most half as much. */
const MOST_BYTES = 2 ** 27;

/** The newest by their names. Rejects with `not-found` and `bad-file`. */
export async function listRecordings(folder: string): Promise<RecordingsView> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(fail(folder));
  const timed = entries
    .filter((entry) => entry.isFile() && isRecording(entry.name))
    .map(({ name }) => ({ name, time: TIME.exec(name)?.[1] ?? '' }));
  const newest = timed.sort((a, b) => compare(b.time, a.time) || compare(a.name, b.name)).slice(0, MOST_LISTED);
  const found = await Promise.all(
    newest.map(async ({ name }) => {
      const stats = await lstat(join(folder, name)).catch((error: unknown) =>
        systemCode(error) === 'ENOENT' ? null : fail(folder)(error),
      );
      if (stats?.isFile() !== true) return [];
      return [{ name, size: stats.size, modifiedAt: stats.mtime.toISOString() }];
    }),
  );
  return { recordings: found.flat(), total: timed.length };
}

/** Opens a recording by its name. Rejects with `not-found` and `bad-file`. */
export async function openRecording(folder: string, name: string): Promise<Readable> {
  const path = join(folder, name);
  if (!isRecording(name)) throw new VproxyError('not-found', 'there is no such recording');
  // Neither waits for the writer of a pipe, nor follows a link out of the folder.
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(fail(path));
  const stats = await file.stat();
  if (stats.isFile() && stats.size <= MOST_BYTES) return file.createReadStream({ end: MOST_BYTES });
  await file.close();
  if (stats.isFile())
    throw new VproxyError('bad-file', `${escapeText(name)} is too large for a browser: use vproxy play`);
  throw new VproxyError('not-found', 'there is no such recording');
}

const isRecording = (name: string): boolean => name.endsWith(CAST_ENDING) && !/[/\0]/.test(name);

const compare = (a: string, b: string): number => (a < b ? -1 : Number(a > b));

const fail = (path: string) => (cause: unknown) => {
  const isMissing = ['ENOENT', 'ELOOP'].includes(systemCode(cause));
  throw new VproxyError(isMissing ? 'not-found' : 'bad-file', `${escapeText(path)}: ${describeError(cause)}`, {
    cause,
  });
};
