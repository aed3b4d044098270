/** Terminals that are recorded where the rule of `exec` says so, between whole processes: who records what, and what is left of it. */
import { chmodSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { runInTerminal } from '../helpers/terminals.js';
import { eventually, within } from '../helpers/time.js';
import { ESTABLISHED, runVproxy, spawnVproxy, TAKING_CONTROL, type VproxyProcess } from '../helpers/vproxy-process.js';

const VPROXY = `${process.execPath} ${join(PROJECT_ROOT, 'dist/program/vproxy.cjs')}`;

interface Sides {
  readonly host: VproxyProcess;
  readonly guest: VproxyProcess;
  readonly socket: string;
  /** Where both keep recordings. */
  readonly recordings: string;
  readonly file: string;
  /** The recordings, the oldest first, each as its lines. */
  readonly found: () => unknown[][];
  /** The events of the host's audit log. */
  readonly audited: (event: string) => Record<string, unknown>[];
  /** Starts a command line of a shell in a terminal, in which `$VPROXY` works. */
  readonly inTerminal: (script: string) => ReturnType<typeof runInTerminal>;
}

/** A host and a guest, which lets commands be run, with these tables in their files. */
async function setUp(t: ExecutionContext, tables: { readonly host?: string; readonly guest?: string }): Promise<Sides> {
  const folder = temporaryFolder(t);
  const recordings = join(folder, 'recordings');
  mkdirSync(recordings, { mode: 0o700 });
  const [socket, path, audit] = ['control.sock', 'channel.sock', 'audit.log'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  const write = (name: string, text: string): string => {
    const file = join(folder, name);
    writeFileSync(file, text.replaceAll('RECORDINGS', recordings));
    return file;
  };
  const file = write(
    'host.toml',
    `audit = "${audit}"\n${tables.host ?? ''}\n[channels.vm1]\naddress = "unix-listen:${path}"\n`,
  );
  const guestFile = write(
    'guest.toml',
    `allow-exec = true\naudit = "${audit}.guest"\n${tables.guest ?? ''}\n[channels.host]\naddress = "unix-connect:${path}"\n`,
  );
  const host = spawnVproxy(t, ['--config', file, '--control', socket]);
  await host.waitForLine(TAKING_CONTROL);
  const guest = spawnVproxy(t, ['--config', guestFile]);
  await host.waitForLine(ESTABLISHED);
  const env = { PATH: process.env['PATH'] ?? '', LC_ALL: 'C.UTF-8', VPROXY_SOCKET: socket, VPROXY };
  const audited = (event: string) =>
    [audit, `${audit}.guest`]
      .flatMap((name) => readFileSync(name, 'utf8').split('\n'))
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .filter((line) => line['event'] === event);
  return {
    host,
    guest,
    socket,
    recordings,
    file,
    found: () =>
      readdirSync(recordings)
        .sort()
        .map((name) => linesOf(join(recordings, name))),
    audited,
    inTerminal: (script) => runInTerminal(t, script, { env }),
  };
}

const RULE = '[services.exec]\nrecord = "RECORDINGS"';

/** The lines of a recording, each of which is whole. */
function linesOf(path: string): unknown[] {
  const text = readFileSync(path, 'utf8');
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as unknown);
}

/** All that an event code of a recording says. */
const textOf = (lines: readonly unknown[], code = 'o'): string =>
  lines
    .slice(1)
    .filter((event) => (event as unknown[])[1] === code)
    .map((event) => (event as unknown[])[2])
    .join('');

test.serial('the side that calls records what was shown, not what was typed, and plays it', async (t) => {
  const { inTerminal, found, audited, recordings } = await setUp(t, { host: RULE });
  const typed = await inTerminal(
    `$VPROXY exec -t sh -c 'stty -echo; echo "grüß dich $(stty size)"; read word; echo "\${#word} letters"'`,
  );
  await typed.shows(/33 101/);
  typed.type('secret\r');
  const { end } = await within(30_000, 'the end of the call', typed.ended);
  t.is(end.status, 0);
  const lines = await eventually(() => found()[0]);
  t.like(lines[0], { version: 2, width: 101, height: 33, env: { TERM: 'xterm' } });
  t.regex((lines[0] as { command: string }).command, /^sh -c 'stty -echo; /);
  await eventually(() => textOf(found()[0] ?? []).includes('letters'));
  t.is(textOf(found()[0] ?? []), 'grüß dich 33 101\r\n6 letters\r\n');
  t.false(JSON.stringify(found()).includes('secret'));
  const path = join(recordings, readdirSync(recordings)[0] ?? '');
  const [event] = await eventually(() => (audited('exec-recorded').length === 1 ? audited('exec-recorded') : null));
  t.like(event, { channel: 'vm1', recording: path });
  const [started] = audited('exec-started');
  t.deepEqual([event?.['pid'], event?.['argv']], [started?.['pid'], started?.['argv']]);
  t.false(Object.hasOwn(started ?? {}, 'recording'), 'the guest records nothing');
  const played = await runVproxy(['play', '--raw', path]);
  t.is(played.stdout, 'grüß dich 33 101\r\n6 letters\r\n');
});

test.serial(
  'the side that runs commands records them, with what is typed where it says so, and names the file in both events',
  async (t) => {
    const { inTerminal, found, audited, recordings } = await setUp(t, { guest: `${RULE}\nrecord-input = true` });
    const typed = await inTerminal(`$VPROXY exec -t sh -c 'stty -echo; echo ready; read word; exit 3'`);
    await typed.shows(/ready/);
    typed.type('secret\r');
    const { end } = await within(30_000, 'the end of the call', typed.ended);
    t.is(end.status, 3);
    const [ended] = await eventually(() => (audited('exec-ended').length === 1 ? audited('exec-ended') : null));
    const [started] = audited('exec-started');
    const path = join(recordings, readdirSync(recordings)[0] ?? '');
    t.deepEqual([started?.['recording'], ended?.['recording']], [path, path]);
    await eventually(() => textOf(found()[0] ?? [], 'i') === 'secret\r' && textOf(found()[0] ?? []) === 'ready\r\n');
    t.is(audited('exec-recorded').length, 0);
  },
);

test.serial('a new size of the terminal is in it', async (t) => {
  const { inTerminal, found } = await setUp(t, { host: RULE });
  const { command, shows, type, ended } = await inTerminal('$VPROXY shell');
  await eventually(() => found().length === 1);
  type("PS1=; trap 'stty size' WINCH; echo re''ady\r");
  await shows(/^ready/m);
  command.resize({ columns: 90, rows: 20 });
  await eventually(() => {
    // The shell tells its trap behind a command.
    type(':\r');
    return textOf(found()[0] ?? [], 'r') === '90x20' && textOf(found()[0] ?? []).includes('20 90');
  });
  type('exit\r');
  await within(30_000, 'the end of the shell', ended);
  t.is((found()[0]?.[0] as { command?: string }).command, undefined, 'which shell it is, the guest knows');
});

test.serial('what has no terminal is not recorded', async (t) => {
  const { socket, found, audited } = await setUp(t, { host: RULE, guest: RULE });
  const { stdout } = await runVproxy(['exec', '--socket', socket, 'echo', 'hello']);
  t.is(stdout, 'hello\n');
  await eventually(() => audited('exec-ended').length === 1);
  t.deepEqual([found(), audited('exec-recorded')], [[], []]);
});

test.serial('a recording is whole up to where its process was killed', async (t) => {
  const { inTerminal, found, host } = await setUp(t, { host: RULE });
  const { shows } = await inTerminal(
    `$VPROXY exec -t sh -c 'i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); done; sleep 1000'`,
  );
  await shows(/line 199/);
  await eventually(() => textOf(found()[0] ?? []).includes('line 199'));
  process.kill(host.pid, 'SIGKILL');
  await host.exited;
  const shown = textOf(found()[0] ?? []);
  t.is(shown, Array.from({ length: 200 }, (_, number) => `line ${number}\r\n`).join(''));
});

test.serial('a caller that is killed, and a proxy that is stopped, leave a whole recording', async (t) => {
  const { inTerminal, found, host, guest } = await setUp(t, { host: RULE, guest: RULE });
  const one = await inTerminal(`$VPROXY exec -t sh -c 'echo one; sleep 1000'`);
  await one.shows(/one/);
  one.command.signal('SIGKILL');
  await within(30_000, 'the end of the caller', one.ended);
  const other = await inTerminal(`$VPROXY exec -t sh -c 'echo other; sleep 1000'`);
  await other.shows(/other/);
  process.kill(guest.pid, 'SIGTERM');
  await guest.exited;
  process.kill(host.pid, 'SIGTERM');
  await host.exited;
  const texts = found()
    .map((lines) => textOf(lines))
    .sort();
  t.deepEqual(texts, ['one\r\n', 'one\r\n', 'other\r\n', 'other\r\n']);
});

test.serial('a full disk is one warning, and the terminal notices nothing', async (t) => {
  const { recordings, host, inTerminal } = await setUp(t, { host: RULE });
  // The bound of a folder, as a file without blocks has that length, too.
  writeFileSync(join(recordings, 'old.cast'), '');
  truncateSync(join(recordings, 'old.cast'), 2 ** 30);
  // The folder is looked at when a recording begins: the first one may be let through.
  for (let count = 1; count <= 3; count += 1) {
    const { ended } = await inTerminal(`$VPROXY exec -t echo number ${count} 2>/dev/null`);
    const { text } = await within(30_000, 'the end of a call', ended);
    t.is(text, `number ${count}\r\n`);
    if (host.lines.some((line) => line.includes('no terminal is recorded'))) break;
  }
  await host.waitForLine(
    /vm1: no terminal is recorded in .*recordings: the recordings in .* may have 1073741824 bytes; the command goes on$/,
  );
  t.true(readdirSync(recordings).length <= 3);
});

test.serial('a reload puts the rule in force for the terminals that begin then, and takes it away', async (t) => {
  const { host, file, recordings, inTerminal, found, socket } = await setUp(t, {});
  const call = async (): Promise<void> => {
    const { ended } = await inTerminal('$VPROXY exec -t true');
    await within(30_000, 'the end of a call', ended);
  };
  const reload = async (text: string): Promise<void> => {
    writeFileSync(file, text);
    const { code, stderr } = await runVproxy(['reload', '--socket', socket]);
    t.is(code, 0, stderr);
  };
  await call();
  t.deepEqual(found(), []);
  const plain = readFileSync(file, 'utf8');
  await reload(`${plain}[channels.vm1.services.exec]\nrecord = "${recordings}"\n`);
  await call();
  await eventually(() => found().length === 1);
  await reload(plain);
  await call();
  t.is(found().length, 1);
  t.false(host.lines.some((line) => line.includes('session with') && line.includes('again')));
});

test.serial(
  'a folder that others can change, and a rule of another service, are refused before anything begins',
  async (t) => {
    const folder = temporaryFolder(t);
    const file = join(folder, 'a.toml');
    const shared = join(folder, 'shared');
    mkdirSync(shared);
    chmodSync(shared, 0o777);
    const check = async (table: string): Promise<string> => {
      writeFileSync(file, `${table}\n[channels.a]\naddress = "unix-listen:${folder}/c.sock"\n`);
      const { stdout, stderr } = await runVproxy(['check', file]);
      return stdout + stderr;
    };
    t.regex(
      await check(`[services.exec]\nrecord = "${shared}"`),
      /\[services\.exec\] record: .*shared: others can write to it \(mode 0777\); chmod 700 it/,
    );
    t.regex(await check(`[services.exec]\nrecord = "${folder}/gone"`), /\[services\.exec\] record: .*gone: /);
    t.regex(
      await check('[services.ssh]\nrecord = "/tmp"'),
      /services\.ssh: record: only the service exec has terminals to be recorded/,
    );
    t.regex(
      await check('[services.exec]\nrecord = "tmp"'),
      /services\.exec\.record: "tmp" is not the absolute path of a folder/,
    );
  },
);
