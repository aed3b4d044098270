/** `vproxy upgrade`: a successor takes over the streams, or the process keeps them; which program may be one, and what it gets. */
import fs from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { decodeDocument, encodeDocument, type HandoverDocument } from '../../cli/upgrade/document.js';
import { requireMemory } from '../../cli/upgrade/predecessor.js';
import { openSafe, requireSafe } from '../../cli/upgrade/program.js';
import { PROJECT_ROOT, sha256, temporaryFolder } from '../helpers/files.js';
import { ONE_SESSION, processPair } from '../helpers/process-pair.js';
import { answerTo, echo, localServer, localSocket, readToEnd } from '../helpers/proxies.js';
import { runUpgrade, upgrade } from '../helpers/upgrades.js';

const FAILING = join(PROJECT_ROOT, 'dist/spec/cli/failing-successor.js');

test('a stream continues when an upgrade is refused with a reason, and when both sides are upgraded', async (t) => {
  const folder = temporaryFolder(t);
  const target = await localServer(t, echo);
  const { host, guest, sockets, clients, sessions } = await processPair(t, {
    control: 'both',
    host: ['-o', 'echo:0'],
    guest: ['-i', `echo:${target.port}`, '--allow-exec'],
  });
  const socket = localSocket(t, await host.listeningPort('echo'));
  const goesOn = async (text: string): Promise<void> => {
    t.is(await answerTo(socket, text), text);
  };
  await goesOn('before');
  const program = (text: string, mode = 0o755): string => {
    const path = join(folder, `program-${sha256(Buffer.from(text)).slice(0, 8)}`);
    fs.writeFileSync(path, `#!/bin/sh\n${text}\n`);
    fs.chmodSync(path, mode);
    return path;
  };
  const refused = async (side: 0 | 1, words: readonly string[], reason: RegExp): Promise<void> => {
    const { code, stdout, stderr } = await runUpgrade(sockets[side], words);
    t.deepEqual([code, stdout], [1, '']);
    t.regex(stderr, reason);
    await goesOn(String(reason));
  };
  const failing = (at: string, how: string) => program(`exec ${process.execPath} ${FAILING} ${at} ${how}`);
  for (const [path, reason] of [
    [failing('check', 'quit'), /successor \S+ exited with status 3/],
    [failing('check', 'failure'), /cannot take over: no check today/],
    [failing('check', 'rubbish'), /sent an unknown format/],
    [failing('take', 'quit'), /the other process ended/],
    [failing('take', 'failure'), /cannot take over: no take today/],
    [failing('take', 'rubbish'), /sent an unknown format/],
    [program('exit 3'), /successor \S+ exited with status 3/],
    [program('kill -9 $$'), /was killed by SIGKILL/],
    [program('echo this is no parcel >&3; cat >/dev/null'), /upgrade|hand over/],
    [join(folder, 'missing'), /missing/],
    ['/dev/null', /cannot run as the successor: \/dev\/null: /],
    [program('exit 0 # open to all', 0o777), /is writable by other users/],
  ] as const) {
    await refused(0, ['--program', path], reason);
  }
  const running = await clients[0].exec(['sh', '-c', 'read line; echo "$line"']);
  await refused(1, ['--wait', '0'], /default: stream \d+ to exec/);
  running.stdin.end('done\n');
  t.is((await running.result).status, 0);

  const pids = [host.pid, guest.pid];
  // The sockets of the channel, of the forward and for control requests; in the guest only the last.
  for (const [side, listeners] of [
    [0, 3],
    [1, 1],
    [0, 3],
  ] as const) {
    const answer = await upgrade(t, sockets[side]);
    t.like(answer, { sessions: 1, streams: 1, listeners });
    t.false(pids.includes(answer.pid));
    pids.push(answer.pid);
    await goesOn(`in ${answer.pid}`);
  }
  t.deepEqual(sessions(), ONE_SESSION);
  for (const client of clients) t.is((await client.channel('default')).history.sessions, 1);
  await clients[0].drain();
  await refused(0, [], /this process is shutting down/);
  socket.end('the end');
  t.is(String(await readToEnd(socket)), 'the end');
});

const OTHER_USER = 12_345;
const IS_ROOT = process.getuid?.() === 0;

/** A program in a folder, both writable only for their owner. */
function programOf(t: ExecutionContext): { readonly folder: string; readonly program: string } {
  const folder = join(temporaryFolder(t), 'folder');
  fs.mkdirSync(folder, { mode: 0o755 });
  const program = join(folder, 'program');
  fs.writeFileSync(program, '', { mode: 0o755 });
  return { folder, program };
}

const refuses = (t: ExecutionContext, path: string, message: RegExp): void => {
  t.throws(() => requireSafe(path), { code: 'upgrade-failed', message });
};

test('a program is run if only root and the user can have put it there, also through links', (t) => {
  const { folder, program } = programOf(t);
  t.notThrows(() => requireSafe(program));
  fs.chmodSync(program, 0o757);
  refuses(t, program, /\/program is writable by other users$/);
  if (IS_ROOT) {
    fs.chmodSync(program, 0o775);
    fs.chownSync(program, 0, OTHER_USER);
    refuses(t, program, /\/program is writable by other users$/);
  }
  fs.chmodSync(program, 0o755);
  fs.chmodSync(folder, 0o777);
  refuses(t, program, /\/folder is writable by other users$/);
  const safe = programOf(t);
  for (const [link, target] of [
    [join(safe.folder, 'to-open'), program],
    [join(folder, 'to-safe'), safe.program],
  ] as const) {
    fs.symlinkSync(target, link);
    refuses(t, link, /\/folder is writable by other users$/);
  }
  // Where no one can replace a file of another user.
  fs.chmodSync(folder, 0o1777);
  t.notThrows(() => requireSafe(program));
  refuses(t, join(folder, 'missing'), /no such file/);
  fs.symlinkSync('circle', join(folder, 'circle'));
  refuses(t, join(folder, 'circle'), /too many symbolic links \(max 40\)$/);
});

test("a program or a link of another user is not used; root's are", (t) => {
  const { folder, program } = programOf(t);
  if (!IS_ROOT) {
    t.throws(() => requireSafe(program, OTHER_USER), { message: /belongs to another user/ });
    return;
  }
  const shared = join(folder, 'shared');
  fs.mkdirSync(shared);
  // A folder where no one can replace a link of another user.
  fs.chmodSync(shared, 0o1777);
  const [link, linkToFolder] = [join(shared, 'link'), join(shared, 'folder')];
  fs.symlinkSync('../program', link);
  fs.symlinkSync(folder, linkToFolder);
  t.is(requireSafe(link).path, program);
  t.is(requireSafe(`${linkToFolder}/shared/../program`).path, program);
  fs.lchownSync(link, OTHER_USER, OTHER_USER);
  fs.lchownSync(linkToFolder, OTHER_USER, OTHER_USER);
  refuses(t, link, /\/link belongs to another user \(12345\)$/);
  refuses(t, `${linkToFolder}/program`, /\/folder belongs to another user \(12345\)$/);
  t.notThrows(() => requireSafe(program, OTHER_USER));
  fs.chownSync(program, OTHER_USER, 0);
  refuses(t, program, /\/program belongs to another user \(12345\)$/);
  t.notThrows(() => requireSafe(program, OTHER_USER));
});

test('a program is run by the checked descriptor, and a script by its path', (t) => {
  const { folder, program } = programOf(t);
  fs.writeFileSync(program, '#!/bin/sh\n');
  t.is(openSafe(program), null);
  t.throws(() => openSafe(folder), { message: /not a regular file$/ });
  fs.copyFileSync('/bin/true', program);
  const fd = openSafe(program) ?? -1;
  t.is(fs.fstatSync(fd).ino, fs.statSync(program).ino);
  fs.closeSync(fd);
});

const MIB = 2 ** 20;

test('a document contains short byte strings, and is followed by long ones', (t) => {
  const [short, long] = [Buffer.from('short'), Buffer.alloc(100_000, 'long')];
  const state = { pieces: [short, long, short.subarray(0, 0), long.subarray(1)], counts: { sessions: 1 } };
  const { bytes, pieces } = encodeDocument(state as unknown as HandoverDocument);
  t.true(bytes.length < 1000);
  t.true(pieces.length === 2 && pieces.every(({ buffer }) => buffer === long.buffer));
  const left = [...pieces];
  const decoded: unknown = decodeDocument(bytes, (byteCount) => {
    const piece = left.shift() ?? Buffer.alloc(0);
    t.is(piece.length, byteCount);
    return piece;
  });
  t.deepEqual(decoded, state);
});

test('an upgrade that does not fit into memory is refused with the figures', (t) => {
  const encoded = { bytes: Buffer.alloc(MIB), pieces: [Buffer.alloc(16 * MIB), Buffer.alloc(16 * MIB)] };
  const boundBy = 'the control group /system.slice/vproxy.service';
  t.notThrows(() => requireMemory(encoded, { bytes: 44 * MIB, boundBy }));
  t.notThrows(() => requireMemory(encoded, null));
  const message =
    /^not enough memory: .+ needs 46\.1 MB \(33\.6 MB buffered\), but the control group \S+ leaves 45\.1 MB; retry/;
  t.throws(() => requireMemory(encoded, { bytes: 43 * MIB, boundBy }), { code: 'upgrade-failed', message });
});
