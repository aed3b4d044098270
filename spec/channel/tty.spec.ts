import { execFile, execFileSync } from 'node:child_process';
import fs from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { ttyKind, ttyOpen } from '../../lib/channel/tty-open.js';
import { VproxyError } from '../../lib/errors.js';
import type { Link } from '../../lib/link/link.js';
import { countOpen, dial, patiently, record } from '../helpers/channel-pair.js';
import { temporaryFolder } from '../helpers/files.js';
import { openPty, type Pty } from '../helpers/terminals.js';
import { spawnVproxy } from '../helpers/vproxy-process.js';

/** The settings of a line, as stty writes and reads them. */
async function settingsOf(device: string): Promise<string> {
  return (await promisify(execFile)('stty', ['-F', device, '-g'])).stdout;
}

/** A terminal as a login would have it: it echoes, edits lines, and changes bytes. */
async function openCookedPty(t: ExecutionContext): Promise<Pty> {
  const pty = await openPty(t);
  execFileSync('stty', ['-F', pty.path, 'sane', '9600']);
  return pty;
}

async function dialTty(t: ExecutionContext, device: string): Promise<Link> {
  return dial(t, `tty-open:${device},baud=115200`);
}

test('the line is raw and fast while the link is there, and as before when it has gone', async (t) => {
  const pty = await openCookedPty(t);
  const before = await settingsOf(pty.path);
  for (const how of ['close', 'destroy'] as const) {
    const link = await dialTty(t, pty.path);
    const meanwhile = execFileSync('stty', ['-F', pty.path, '-a']).toString();
    for (const setting of ['speed 115200', '-icanon', '-echo ', '-opost', '-iexten', '-ixon', 'cs8', 'clocal']) {
      t.true(meanwhile.includes(setting), `${setting} in ${meanwhile}`);
    }
    const handler = record(link);
    link[how]();
    t.is((await handler.closed).code, 'shutdown');
    t.is(await settingsOf(pty.path), before);
  }
});

test('without a baud rate the line keeps its speed', async (t) => {
  const pty = await openCookedPty(t);
  await dial(t, `tty-open:${pty.path}`);
  t.regex(execFileSync('stty', ['-F', pty.path, '-a']).toString(), /speed 9600 baud/);
});

test('a link that is closed before it was started puts the settings back as well', async (t) => {
  const pty = await openCookedPty(t);
  const before = await settingsOf(pty.path);
  const link = await dialTty(t, pty.path);
  t.not(await settingsOf(pty.path), before);
  link.destroy();
  const handler = record(link);
  await handler.closed;
  t.is(await settingsOf(pty.path), before);
});

test.serial('SIGTERM makes vproxy put the settings back, and stty leads no session meanwhile', async (t) => {
  const pty = await openCookedPty(t);
  const before = await settingsOf(pty.path);
  // A line would be the terminal of such a session, and be hung up for all when it ends. A pseudo-terminal is not hung
  // up then, as a UART is; so the test looks at the process that runs stty.
  const folder = temporaryFolder(t);
  const seen = path.join(folder, 'seen');
  const stty = `#!/bin/sh\ncut -d ' ' -f 1,6 /proc/$$/stat >> '${seen}'\nPATH=\${PATH#*:} exec stty "$@"\n`;
  await fs.writeFile(path.join(folder, 'stty'), stty, { mode: 0o755 });
  const env = { PATH: `${folder}:${process.env['PATH'] ?? ''}` };
  const vproxy = spawnVproxy(t, ['-c', `tty-open:${pty.path}`, '--no-storage'], { env });
  await vproxy.waitForLine(/no answer on tty-open:/);
  t.not(await settingsOf(pty.path), before);
  vproxy.kill('SIGTERM');
  t.deepEqual(await vproxy.exited, { code: 0, signal: null });
  t.is(await settingsOf(pty.path), before);
  const lines = (await fs.readFile(seen, 'utf8')).trim().split('\n');
  t.true(lines.length >= 2);
  for (const line of lines) t.notRegex(line, /^(\d+) \1$/);
});

test.serial('a defect that ends the process leaves the settings as they were', async (t) => {
  const pty = await openCookedPty(t);
  const before = await settingsOf(pty.path);
  const script = `
    import { ttyOpen } from ${JSON.stringify(new URL('../../lib/channel/tty-open.js', import.meta.url).href)};
    const report = { waiting() {} };
    await ttyOpen.dial(ttyOpen.parse(${JSON.stringify(pty.path)}), { signal: new AbortController().signal, report });
    throw new Error('a defect');`;
  const program = promisify(execFile)(process.execPath, ['--input-type=module', '-e', script]);
  await t.throwsAsync(program, { code: 1 });
  t.is(await settingsOf(pty.path), before);
});

test('a line whose other end leaves is channel-closed, also for the next who opens it', async (t) => {
  const pty = await openPty(t);
  const link = await dialTty(t, pty.path);
  const handler = record(link);
  while (link.write(Buffer.alloc(4096)));
  pty.hangUp();
  t.is((await handler.closed).code, 'channel-closed');
  t.is(handler.closings.length, 1);
});

test('closing a link frees its descriptor', async (t) => {
  const pty = await openPty(t);
  const before = countOpen(pty.path);
  const link = await dialTty(t, pty.path);
  const handler = record(link);
  t.true(countOpen(pty.path) > before);
  link.close();
  await handler.closed;
  t.is(countOpen(pty.path), before);
});

async function refuses(t: ExecutionContext, device: string, code: string, says: string, kind = ttyOpen) {
  const attempt = kind.dial(kind.parse(device), patiently());
  const error = await t.throwsAsync(attempt, { instanceOf: VproxyError, code });
  t.true(error.message.startsWith(`tty-open:${device}`), error.message);
  t.true(error.message.includes(says), error.message);
}

test('what is no terminal line is refused, and not changed', async (t) => {
  const folder = temporaryFolder(t);
  const file = path.join(folder, 'regular');
  await fs.writeFile(file, 'precious');
  await refuses(t, path.join(folder, 'none'), 'channel-missing', 'none is missing (ENOENT)');
  await refuses(t, file, 'channel-unusable', 'not a device');
  await refuses(t, folder, 'channel-unusable', 'not a device');
  await refuses(t, '/dev/null', 'channel-unusable', 'not a terminal line');
  t.is(await fs.readFile(file, 'utf8'), 'precious');
});

test('a line to which the kernel writes its messages is refused', async (t) => {
  const sys = temporaryFolder(t);
  const pty = await openPty(t);
  await fs.mkdir(path.join(sys, 'class/tty/console'), { recursive: true });
  await fs.writeFile(path.join(sys, 'class/tty/console/active'), `tty0 ${path.basename(pty.path)}\n`);
  await refuses(t, pty.path, 'channel-unusable', 'the console', ttyKind(sys));
});

test('opening that is given up puts the settings back', async (t) => {
  const pty = await openCookedPty(t);
  const before = await settingsOf(pty.path);
  const abort = new AbortController();
  const attempt = ttyOpen.dial(ttyOpen.parse(pty.path), { ...patiently(), signal: abort.signal });
  abort.abort();
  await t.throwsAsync(attempt, { instanceOf: VproxyError, code: 'shutdown' });
  t.is(await settingsOf(pty.path), before);
});
