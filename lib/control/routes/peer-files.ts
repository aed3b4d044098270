/** Routes that read, write and remove files of the peer, and list its folders: for programs that speak only HTTP. */

import type { ServerResponse } from 'node:http';
import { acceptedStream } from '../../peer.js';
import type { Proxy } from '../../proxy/proxy.js';
import { type FileEntry, Files } from '../../services/sftp/files.js';
import { FileError } from '../../services/sftp/sftp-client.js';
import { MAX_DATA_BYTES, SFTP_SERVICE } from '../../services/sftp/sftp-numbers.js';
import { fileEntrySchema } from '../../status/command-schemas.js';
import * as z from '../../status/zod.js';
import { isSent, withPlace, write } from './long-requests.js';
import { RequestError } from './request-error.js';
import { BYTES_TYPE, jsonRoute, textRoute } from './route.js';
import { onlyChannel, yesOrNoText } from './values.js';

const place = {
  channel: onlyChannel(),
  path: z.string().describe('A path of the peer; without a slash in front, from where its service starts'),
};

const mode = z
  .string()
  .regex(/^[0-7]{1,4}$/, 'must be octal, as 644')
  .transform((text) => Number.parseInt(text, 8))
  .optional()
  .meta({ type: 'string', pattern: '^[0-7]{1,4}$' })
  .describe('Its permissions, as 644; default: those of the file that is replaced, or what the umask there leaves');

export const fileRoutes = [
  textRoute('GET /v1/files', 'readFile', {
    summary: 'Reads a file, or the part of it that a header `Range` asks for',
    query: z.strictObject(place),
    contentType: BYTES_TYPE,
    answer: null,
    errors: [403, 404, 409, 416, 503],
    send: ({ proxy }, { query: { channel, path }, signal, request }, response) =>
      withFiles(proxy, { channel, signal }, async (files) => {
        const file = await files.open(path, { signal });
        try {
          await sendFile(file, request.headers.range, response);
        } finally {
          file.end();
        }
        await isSent(response);
      }),
  }),
  jsonRoute('PUT /v1/files', 'writeFile', {
    summary: 'Replaces a file with the body, or creates it: it appears at once, whole or not at all',
    query: z.strictObject({ ...place, mode }),
    takesBytes: true,
    status: 204,
    answer: null,
    errors: [403, 404, 409, 503],
    handle: ({ proxy }, { query: { channel, path, mode }, signal, bytes, request }) => {
      if (request.headers['content-range'] !== undefined)
        throw new RequestError('bad-argument', 'Content-Range: a part of a file cannot be written');
      return withFiles(proxy, { channel, signal }, (files) => files.write(path, bytes(), { mode, signal }));
    },
  }),
  jsonRoute('DELETE /v1/files', 'removeFile', {
    summary: 'Removes a file, a link or a folder; follows no link',
    query: z.strictObject({
      ...place,
      recursive: yesOrNoText().optional().describe('Whether to remove a folder that is not empty; default false'),
    }),
    status: 204,
    answer: null,
    errors: [403, 404, 409, 503],
    handle: ({ proxy }, { query: { channel, path, recursive }, signal }) =>
      withFiles(proxy, { channel, signal }, (files) => files.remove(path, { recursive, signal })),
  }),
  textRoute('GET /v1/folders', 'listFolder', {
    summary: 'The entries of a folder, in any order',
    query: z.strictObject(place),
    contentType: 'application/json',
    answer: z.array(fileEntrySchema),
    errors: [403, 404, 409, 503],
    send: ({ proxy }, { query: { channel, path }, signal }, response) =>
      withFiles(proxy, { channel, signal }, async (files) => {
        await sendEntries(files.entries(path, { signal }), response);
        await isSent(response);
      }),
  }),
];

/** The statuses of errors of the peer's file system; others are 422. */
const STATUSES: Readonly<Record<string, number>> = {
  ENOENT: 404,
  EACCES: 403,
  EPERM: 403,
  EROFS: 403,
  EEXIST: 409,
  EISDIR: 409,
  ENOTDIR: 409,
  ENOTEMPTY: 409,
};

interface Caller {
  readonly channel: string | undefined;
  readonly signal: AbortSignal;
}

function withFiles<T>(proxy: Proxy, { channel, signal }: Caller, work: (files: Files) => Promise<T>): Promise<T> {
  const files = new Files(async () => acceptedStream(await proxy.openStream(SFTP_SERVICE, channel, { signal })));
  return withPlace(proxy, () => work(files)).catch((error: unknown) => {
    if (!(error instanceof FileError)) throw error;
    throw new RequestError(error.code, error.message, { status: STATUSES[error.code] ?? 422, cause: error });
  });
}

async function sendFile(
  file: Awaited<ReturnType<Files['open']>>,
  range: string | undefined,
  response: ServerResponse,
): Promise<void> {
  const { size } = file.status;
  const part = partOf(range, size);
  const { offset, length } = part ?? { offset: 0, length: size };
  const all = file.pieces(offset, part === null && size === 0 ? Number.MAX_SAFE_INTEGER : offset + length);
  // It may fail before the answer begins.
  let piece = await all.next();
  // Of a file in /proc or /sys the size says nothing.
  const isKnown = (piece.value?.length ?? 0) >= Math.min(length, MAX_DATA_BYTES) && size > 0;
  if (part !== null) response.setHeader('Content-Range', `bytes ${offset}-${offset + length - 1}/${size}`);
  if (isKnown || part !== null) response.setHeader('Content-Length', length);
  response.writeHead(part === null ? 200 : 206, { 'Accept-Ranges': 'bytes' });
  let left = response.hasHeader('Content-Length') ? length : 0;
  for (; piece.done !== true; piece = await all.next()) {
    left -= piece.value.length;
    await write(response, piece.value);
  }
  // A file that has become shorter: the client must not take the part for the whole.
  if (left > 0) response.destroy();
  else response.end();
}

/** Sends entries as they come: a folder may have millions. */
async function sendEntries(all: AsyncGenerator<FileEntry[], void>, response: ServerResponse): Promise<void> {
  // It may fail before the answer begins.
  let some = await all.next();
  let before = '[';
  for (; some.done !== true; some = await all.next()) {
    const texts = some.value.map(({ name, kind, size, mode: bits, uid, gid, modifiedAt }) =>
      JSON.stringify({ name, kind, size, mode: bits, uid, gid, modifiedAt: modifiedAt.toISOString() }),
    );
    if (texts.length === 0) continue;
    await write(response, before + texts.join(',\n'));
    before = ',\n';
  }
  response.end(before === '[' ? '[]\n' : ']\n');
}

/** The part of a file that a header `Range` asks for; null: all, also for several parts, and without a size. Throws with the status 416. */
function partOf(range: string | undefined, size: number) {
  if (size === 0) return null;
  const [, first, last] = /^bytes=(\d{0,16})-(\d{0,16})$/.exec(range ?? '') ?? [];
  if (first === undefined || last === undefined || (first === '' && last === '')) return null;
  const from = first === '' ? Math.max(0, size - Number(last)) : Number(first);
  const end = first === '' || last === '' ? size : Math.min(size, Number(last) + 1);
  // As the standard has it, this is no range.
  if (first !== '' && last !== '' && Number(last) < Number(first)) return null;
  if (from < end) return { offset: from, length: end - from };
  const headers = { 'Content-Range': `bytes */${size}` };
  throw new RequestError('bad-argument', `Range: not in a file of ${size} bytes`, { status: 416, headers });
}
