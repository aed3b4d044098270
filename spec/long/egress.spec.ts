/** A gibibyte each way through an egress, by each of its three protocols. */
import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import test from 'ava';
import { ORIGINS, PROXY, PROXY_ENV, useEgressWorld, WORLD_NEEDS } from '../helpers/egress-world.js';
import { peakBytes, resetPeak, residentBytes } from '../helpers/measures.js';
import { serialTestWith } from '../helpers/test-with.js';
import { patternPieces } from '../vm/rig/pattern.js';

const withWorld = serialTestWith(...WORLD_NEEDS);

const BYTES = 2 ** 30;
const TRANSFER_MS = 600_000;
/** How much either process may grow from a cold start: data in flight is bounded, whatever the total size. */
const GROWTH_BYTES = BYTES / 5;

const WAYS = {
  CONNECT: { scheme: 'https', words: ['--proxy', PROXY] },
  'absolute form': { scheme: 'http', words: ['--proxy', PROXY] },
  'SOCKS 5': { scheme: 'https', words: ['--proxy', PROXY_ENV.all_proxy] },
} as const;

let digest = '';
let file = '';

const world = useEgressWorld(test);

test.serial.before('write a gibibyte', async (t) => {
  t.timeout(TRANSFER_MS);
  file = join(world().makeFolder('sent'), 'pattern');
  await pipeline(Readable.from(patternPieces(BYTES)), createWriteStream(file));
  const hash = createHash('sha256');
  for (const piece of patternPieces(BYTES)) hash.update(piece);
  digest = hash.digest('hex');
});

for (const [way, { scheme, words }] of Object.entries(WAYS)) {
  withWorld(`1 GiB comes down and goes up by ${way}, with its hash`, async (t) => {
    t.timeout(2 * TRANSFER_MS);
    const { host, guest, outside, inside } = world();
    const sides = [host, guest];
    const restingBytes = sides.map(({ pid }) => residentBytes(pid));
    for (const { pid } of sides) resetPeak(pid);
    const curl = ['curl', '-sS', '-f', '--cacert', outside.authority, ...words];
    const url = `${scheme}://${ORIGINS.files}`;
    const began = performance.now();
    const script = '"$@" | sha256sum';
    const download = ['sh', '-c', script, 'sh', ...curl, `${url}/-/pattern/${BYTES}`];
    const down = await inside.run(download, { timeoutMs: TRANSFER_MS });
    t.deepEqual(down, { code: 0, stdout: `${digest}  -\n`, stderr: '' });
    const middle = performance.now();
    const up = await inside.run([...curl, '-T', file, `${url}/-/digest`], { timeoutMs: TRANSFER_MS });
    t.deepEqual(up, { code: 0, stdout: `${digest} ${BYTES}\n`, stderr: '' });
    const rates = [middle - began, performance.now() - middle].map((ms) => Math.round(BYTES / 1e3 / ms));
    const grownBytes = sides.map(({ pid }, index) => peakBytes(pid) - (restingBytes[index] ?? 0));
    const grown = grownBytes.map((bytes) => Math.round(bytes / 2 ** 20)).join(' and ');
    t.log(`${rates.join(' and ')} MB/s down and up; host and guest grown by ${grown} MiB`);
    for (const each of grownBytes) t.true(each <= GROWTH_BYTES, `grown by ${grown} MiB`);
  });
}
