/** Terminals recorded by the rule of `exec`, between whole processes: who records what, and what is left of it. */
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { openFiles } from '../helpers/measures.js';
import { runInTerminal } from '../helpers/terminals.js';
import { eventually, within } from '../helpers/time.js';
import { ESTABLISHED, runVproxy, spawnControlled, spawnVproxy, VPROXY } from '../helpers/vproxy-process.js';

const jsonLines = (path: string): unknown[] => {
  // Each line is whole.
  const lines = readFileSync(path, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as unknown);
};

/** The joined data of the events of a recording with a code. */
const textOf = (path: string | undefined, code = 'o'): string => {
  const events = path === undefined ? [] : (jsonLines(path).slice(1) as [timeS: number, code: string, text: string][]);
  return events.flatMap(([, kind, text]) => (kind === code ? [text] : [])).join('');
};

/** A host, and a guest that allows commands, each with a rule for `exec`; `FOLDER` stands for a folder of its own. */
async function setUp(t: ExecutionContext, rules: { readonly host?: string; readonly guest?: string }) {
  const folder = temporaryFolder(t);
  const path = join(folder, 'channel.sock');
  const prepare = (side: 'host' | 'guest', table: string) => {
    const recordings = join(folder, side);
    mkdirSync(recordings, { mode: 0o700 });
    const file = join(folder, `${side}.toml`);
    const rule = rules[side] === undefined ? '' : `[services.exec]\n${rules[side].replace('FOLDER', recordings)}\n`;
    writeFileSync(file, `audit = "${folder}/${side}.log"\nallow-exec = ${side === 'guest'}\n${rule}${table}`);
    return {
      file,
      recordings,
      /** The paths of its recordings, the oldest first. */
      found: () =>
        readdirSync(recordings)
          .sort()
          .map((name) => join(recordings, name)),
      /** The events of its audit log. */
      audited: (event: string) =>
        (jsonLines(`${folder}/${side}.log`) as Record<string, unknown>[]).filter((line) => line['event'] === event),
    };
  };
  const here = prepare('host', `[channels.vm1]\naddress = "unix-listen:${path}"\n`);
  const there = prepare('guest', `[channels.host]\naddress = "unix-connect:${path}"\n`);
  const { vproxy: host, socket } = await spawnControlled(t, ['--config', here.file]);
  const guest = spawnVproxy(t, ['--config', there.file]);
  await host.waitForLine(ESTABLISHED);
  const env = { PATH: process.env['PATH'] ?? '', LC_ALL: 'C.UTF-8', VPROXY_SOCKET: socket };
  return {
    ...{ host, guest, socket, here, there },
    /** Starts vproxy in a terminal, and types keys once it shows something. */
    inTerminal: async (words: string, shown?: RegExp, keys = '') => {
      const terminal = await runInTerminal(t, `${VPROXY} ${words}`, { env });
      if (shown !== undefined) await terminal.shows(shown);
      if (keys !== '') terminal.type(keys);
      return { ...terminal, end: () => within(30_000, 'the end of a call', terminal.ended) };
    },
  };
}

test.serial('each side records output, and input by its rule, names the file in events, and plays it', async (t) => {
  const rules = { host: 'record = "FOLDER"', guest: 'record = "FOLDER"\nrecord-input = true' };
  const { inTerminal, socket, here, there } = await setUp(t, rules);
  // A command without a terminal is not recorded.
  t.is((await runVproxy(['exec', '--socket', socket, 'echo', 'hello'])).stdout, 'hello\n');
  await eventually(() => there.audited('exec-ended').length === 1);
  t.deepEqual([here.found(), there.found(), here.audited('exec-recorded')], [[], [], []]);

  const script = 'stty -echo; echo "grüß dich $(stty size)"; read word; echo "${#word} letters"; exit 3';
  const { end } = await inTerminal(`exec -t sh -c '${script}'`, /33 101/, 'secret\r');
  t.is((await end()).end.status, 3);
  const shown = 'grüß dich 33 101\r\n6 letters\r\n';
  const [[path = ''], [other = '']] = [here.found(), there.found()];
  await eventually(() => textOf(path) === shown && textOf(other) === shown && textOf(other, 'i') === 'secret\r');
  t.false(readFileSync(path, 'utf8').includes('secret'));
  const [header] = jsonLines(path) as [{ command: string }];
  t.like(header, { version: 2, width: 101, height: 33, env: { TERM: 'xterm' } });
  t.regex(header.command, /^sh -c 'stty -echo; /);
  const [recorded] = await eventually(() =>
    here.audited('exec-recorded').length === 1 ? here.audited('exec-recorded') : null,
  );
  const [[, started], [, ended]] = [there.audited('exec-started'), there.audited('exec-ended')];
  t.deepEqual([recorded?.['channel'], recorded?.['recording']], ['vm1', path]);
  t.deepEqual([recorded?.['pid'], recorded?.['argv']], [started?.['pid'], started?.['argv']]);
  t.deepEqual([started?.['recording'], ended?.['recording']], [other, other]);
  t.deepEqual(there.audited('exec-recorded'), []);
  t.is((await runVproxy(['play', '--raw', path])).stdout, shown);
});

test.serial('a kept terminal has one recording where it runs, and one of each caller on the other side', async (t) => {
  const rules = { host: 'record = "FOLDER"\nrecord-input = true', guest: 'record = "FOLDER"' };
  const { inTerminal, here, there } = await setUp(t, rules);
  const script = 'stty -echo; echo begin; while read -r line; do echo "got $line"; done; exit 3';
  const words = `shell --keep work vm1 sh -c '${script}'`;
  const first = await inTerminal(words, /begin/, 'one\r');
  await first.shows(/got one/);
  first.type('\x1c');
  t.is((await first.end()).end.status, 0);
  const second = await inTerminal(words, /got one/, 'two\r\x04');
  t.is((await second.end()).end.status, 3);
  const whole = 'begin\r\ngot one\r\ngot two\r\n';
  await eventually(() => textOf(there.found()[0]) === whole && here.found().length === 2, { what: 'recordings' });
  t.is(there.found().length, 1);
  const shown = () =>
    here
      .found()
      .map((path) => textOf(path).length)
      .sort();
  await eventually(() => String(shown()) === String([whole.length - 9, whole.length]), { what: 'all output' });
  t.deepEqual(
    here
      .found()
      .map((path) => textOf(path, 'i'))
      .sort(),
    ['one\r', 'two\r\x04'],
  );
  await eventually(() => there.audited('exec-detached').length === 2, { what: 'the end of both' });
  t.is(there.audited('exec-attached').length, 2);
});

test.serial('a recording has each new size, and is complete if the caller or either proxy is killed', async (t) => {
  const { inTerminal, host, guest, here, there } = await setUp(t, {
    host: 'record = "FOLDER"',
    guest: 'record = "FOLDER"',
  });
  const shell = await inTerminal('shell', /./, "PS1=; trap 'stty size' WINCH; echo re''ady\r");
  await shell.shows(/^ready/m);
  shell.command.resize({ columns: 90, rows: 20 });
  await eventually(() => {
    // The shell runs its trap after a command.
    shell.type(':\r');
    const [path] = here.found();
    return textOf(path, 'r') === '90x20' && textOf(path).includes('20 90');
  });
  const [{ command } = {}] = jsonLines(here.found()[0] ?? '') as { command?: string }[];
  t.is(command, undefined, 'which shell it is, the guest knows');
  shell.type('exit\r');
  await shell.end();

  const killed = await inTerminal(`exec -t sh -c 'echo one; sleep 1000'`, /one/);
  killed.command.signal('SIGKILL');
  await killed.end();
  await eventually(() => !openFiles(host.pid).some((file) => file.startsWith(`${here.recordings}/`)));
  await inTerminal(`exec -t sh -c 'echo other; sleep 1000'`, /other/);
  const count = 'i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); done';
  await inTerminal(`exec -t sh -c '${count}; sleep 1000'`, /line 199/);
  await eventually(() => here.found().some((path) => textOf(path).includes('line 199')));
  host.kill('SIGKILL');
  await host.exited;
  guest.kill('SIGTERM');
  await guest.exited;
  const lines = Array.from({ length: 200 }, (_, number) => `line ${number}\r\n`).join('');
  for (const { found } of [here, there]) {
    // Recordings of one second are in no order; that of the shell is known by its size.
    const texts = found().map((path) => textOf(path));
    t.deepEqual(texts.filter((text) => !text.includes('20 90')).sort(), [lines, 'one\r\n', 'other\r\n']);
  }
});

test.serial('a reload applies the rule to new terminals, and removes it', async (t) => {
  const { host, here, inTerminal, socket } = await setUp(t, {});
  const { file, recordings, found } = here;
  const call = async (): Promise<number> => {
    await (await inTerminal('exec -t true')).end();
    return found().length;
  };
  const plain = readFileSync(file, 'utf8');
  const rule = (folder: string) => `${plain}[channels.vm1.services.exec]\nrecord = "${folder}"\n`;
  const reload = async (text: string): Promise<void> => {
    writeFileSync(file, text);
    const { code, stderr } = await runVproxy(['reload', '--socket', socket]);
    t.is(code, 0, stderr);
  };
  t.is(await call(), 0);
  await reload(rule(recordings));
  t.is(await call(), 1);
  await reload(plain);
  t.is(await call(), 1);
  t.is(host.lines.filter((line) => ESTABLISHED.test(line)).length, 1);
  // A folder that other users can change is rejected before anything begins.
  const shared = `${recordings}/shared`;
  mkdirSync(shared);
  chmodSync(shared, 0o777);
  writeFileSync(file, rule(shared));
  const { stderr } = await runVproxy(['check', file]);
  t.regex(stderr, /\[services\.exec\] record: .*shared: writable by other users \(mode 0777\); run chmod 700/);
});
