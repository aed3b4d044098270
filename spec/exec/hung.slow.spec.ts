/** A file system that does not answer, and commands that look there. */
import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, openSync, read, readFileSync, writeFileSync, writeSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { ExecutionContext } from 'ava';
import { decideCommand, thisSystem } from '../../lib/services/exec/decide-command.js';
import { AS_GUEST, buildGuest } from '../guest-program/build.js';
import { temporaryFolder } from '../helpers/files.js';
import { execPair, type ProcessPair } from '../helpers/process-pair.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { runVproxy } from '../helpers/vproxy-process.js';

buildGuest();

/** A file system in an empty folder, and its requests and answers; nothing has been answered. */
function mountOne(t: ExecutionContext): { readonly place: string; readonly fuse: number } {
  const place = temporaryFolder(t);
  const fuse = openSync('/dev/fuse', 'r+');
  t.teardown(() => {
    closeSync(fuse);
    spawnSync('umount', ['--lazy', place]);
  });
  const words = ['-i', '-t', 'fuse', '-o', 'fd=3,rootmode=40000,user_id=0,group_id=0', 'hung', place];
  execFileSync('mount', words, { stdio: ['ignore', 'ignore', 'inherit', fuse] });
  return { place, fuse };
}

const [LOOKUP, GETATTR, OPEN, INIT, ACCESS, STATX] = [1, 3, 14, 26, 34, 52];

/** A reply of so many bytes, with numbers of 32 bits at some offsets. */
function reply(bytes: number, numbers: Readonly<Record<number, number>> = {}): Buffer {
  const answer = Buffer.alloc(bytes);
  for (const [offset, value] of Object.entries(numbers)) answer.writeUInt32LE(value, Number(offset));
  return answer;
}

/** What is known of the folder, which is 1, or of the program in it; from this offset on. */
const attributes = (node: number, at: number) => ({
  ...{ [at]: node, [at + 8]: node === 1 ? 0 : 1000, [at + 64]: 1, [at + 80]: 4096 },
  [at + 60]: node === 1 ? 0o40_755 : 0o100_755,
});

/** Answers all that comes before a program is opened; resolves when it is to be opened. */
async function serveUntilOpen(fuse: number): Promise<void> {
  const request = Buffer.alloc(70_000);
  for (;;) {
    await promisify(read)(fuse, request, 0, request.length, null);
    const kind = request.readUInt32LE(4);
    if (kind === OPEN) return;
    const answers: Readonly<Record<number, Buffer>> = {
      [INIT]: reply(64, { 0: 7, 4: 31, 8: 65_536, 20: 65_536, 24: 1 }),
      [LOOKUP]: reply(128, { 0: 2, 16: 1, 24: 1, ...attributes(2, 40) }),
      [GETATTR]: reply(104, { 0: 1, ...attributes(request.readUInt32LE(16), 16) }),
      [ACCESS]: reply(0),
      [STATX]: reply(0),
    };
    const body = answers[kind];
    if (body === undefined) continue;
    const head = reply(16, { 0: 16 + body.length });
    if (kind === STATX) head.writeInt32LE(-os.constants.errno.ENOSYS, 4);
    request.copy(head, 8, 8, 16);
    writeSync(fuse, Buffer.concat([head, body]));
  }
}

serialTestWith('root')('commands of one channel that wait for a file system hold up none of another', async (t) => {
  const { place } = mountOne(t);
  const [one, other] = [thisSystem(), thisSystem()];
  const any = { commands: 'any' } as const;
  const hanging = Array.from({ length: 4 }, () => decideCommand({ argv: ['true'], cwd: place }, any, one));
  for (const each of hanging) each.catch(() => undefined);
  for (let count = 0; count < 3; count += 1)
    t.regex((await decideCommand({ argv: ['true'] }, any, other)).options.file, /\/true$/);
});

for (const [name, guestOptions] of [
  ['vproxy', {}],
  ['vproxy-guest', AS_GUEST],
] as const) {
  serialTestWith('root', 'go')(`${name}: commands that wait for a file system leave room for copies`, async (t) => {
    const pair = await execPair(t, ['--allow-exec', '--allow-copy'], { guestOptions });
    const { place: hung } = mountOne(t);
    for (let count = 0; count < 8; count += 1) {
      const path = Array.from({ length: 8 }, (_, index) => join(hung, String(index))).join(':');
      pair.start('-n', ...(count % 2 === 0 ? ['-w', hung] : ['-e', `PATH=${path}`]), '--', 'true');
    }
    const [host] = pair.clients;
    await eventually(async () => (await host.streams()).length === 8, { timeoutMs: 30_000 });
    await copies(t, pair);
  });

  serialTestWith('root', 'go')(`${name}: a program that cannot be read yet holds up only its command`, async (t) => {
    const pair = await execPair(t, ['--allow-exec', '--allow-copy'], { guestOptions });
    // Ends before the processes, which cannot while they wait for it.
    const { place, fuse } = mountOne(t);
    pair.start('-n', '--', join(place, 'program'));
    await serveUntilOpen(fuse);
    await copies(t, pair);
    t.is((await pair.exec(['-n', '--', 'echo', 'hello'])).stdout, 'hello\n');
  });
}

/** Passes if a file can be copied to the guest. */
async function copies(t: ExecutionContext, { env, folder }: ProcessPair): Promise<void> {
  const [from, to] = [join(folder, 'from'), join(folder, 'to')];
  writeFileSync(from, 'copied');
  t.is((await runVproxy(['copy', from, `:${to}`], { env })).code, 0);
  t.is(readFileSync(to, 'utf8'), 'copied');
}
