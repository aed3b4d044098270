/** A file system that does not answer, and commands that look there. */
import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { AS_GUEST, buildGuest } from '../guest-program/build.js';
import { temporaryFolder } from '../helpers/files.js';
import { execPair } from '../helpers/process-pair.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { runVproxy } from '../helpers/vproxy-process.js';

buildGuest();

/** A folder whose server never answers. */
function hungFolder(t: ExecutionContext): string {
  const place = temporaryFolder(t);
  const fuse = openSync('/dev/fuse', 'r+');
  t.teardown(() => {
    closeSync(fuse);
    spawnSync('umount', ['--lazy', place]);
  });
  const words = ['-i', '-t', 'fuse', '-o', 'fd=3,rootmode=40000,user_id=0,group_id=0', 'hung', place];
  execFileSync('mount', words, { stdio: ['ignore', 'ignore', 'inherit', fuse] });
  return place;
}

for (const [name, guestOptions] of [
  ['vproxy', {}],
  ['vproxy-guest', AS_GUEST],
] as const) {
  serialTestWith('root', 'go')(`${name}: commands that wait for a file system leave room for copies`, async (t) => {
    const hung = hungFolder(t);
    const pair = await execPair(t, ['--allow-exec', '--allow-copy'], { guestOptions });
    for (let count = 0; count < 8; count += 1) {
      const path = Array.from({ length: 8 }, (_, index) => join(hung, String(index))).join(':');
      pair.start('-n', ...(count % 2 === 0 ? ['-w', hung] : ['-e', `PATH=${path}`]), '--', 'true');
    }
    const [host] = pair.clients;
    await eventually(async () => (await host.streams()).length === 8, { timeoutMs: 30_000 });
    const [from, to] = [join(pair.folder, 'from'), join(pair.folder, 'to')];
    writeFileSync(from, 'copied');
    t.is((await runVproxy(['copy', from, `:${to}`], { env: pair.env })).code, 0);
    t.is(readFileSync(to, 'utf8'), 'copied');
  });
}
