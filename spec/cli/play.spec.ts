/** `vproxy play`, in a terminal and in a pipe. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { TerminalModes } from '../../cli/ui/local-terminal.js';
import { callVproxy } from '../helpers/call-vproxy.js';
import { temporaryFolder } from '../helpers/files.js';
import { runInTerminal } from '../helpers/terminals.js';
import { within } from '../helpers/time.js';
import { runVproxy, VPROXY } from '../helpers/vproxy-process.js';

const HEADER = '{"version": 2, "width": 80, "height": 24}';
const END = '[9999, "o", "late"]';

/** A file with these lines. */
function recording(t: ExecutionContext, ...lines: readonly string[]): string {
  const path = join(temporaryFolder(t), 'a.cast');
  writeFileSync(path, lines.map((line) => `${line}\n`).join(''));
  return path;
}

/** The output of a script in a terminal; `keys` are typed when it shows `now`. */
async function shown(t: ExecutionContext, script: string, keys?: string): Promise<string> {
  const { shows, type, ended } = await runInTerminal(t, script);
  if (keys !== undefined) {
    await shows(/now$/);
    type(keys);
  }
  return (await within(30_000, 'the end of the script', ended)).text;
}

test('shows output but not typed input, and ends with the recording', async (t) => {
  const path = recording(t, HEADER, '[0, "o", "\\u001b[1mone\\r\\n"]', '[0.01, "i", "typed"]', '[0.02, "o", "two"]');
  const text = await shown(t, `${VPROXY} play ${path}; echo status $?`);
  t.regex(text, /^\u001b\[1mone\r\ntwo\u001b\[m.*\r\nstatus 0\r\n$/s);
  const plain = recording(t, HEADER, '[0, "o", "one"]');
  t.is(await shown(t, `TERM=dumb ${VPROXY} play ${plain}; echo status $?`), 'one\r\nstatus 0\r\n');
});

test('keeps the pace, or plays faster, or shortens pauses', async (t) => {
  const path = recording(t, HEADER, '[0, "o", "one"]', '[36000, "o", "two"]', '[36001.2, "o", "three"]');
  const startedAtMs = performance.now();
  const text = await shown(t, `${VPROXY} play --idle-limit 2 --speed 4 ${path}; echo status $?`);
  t.regex(text, /^onetwothree.*status 0\r\n$/s);
  t.true(performance.now() - startedAtMs >= 800, 'two pauses, of 2 s and 1.2 s, four times as fast');
});

test('Ctrl-C and SIGTERM end it, and the terminal is restored', async (t) => {
  const path = recording(t, HEADER, '[0, "o", "\\u001b[?1049h\\u001b[?25l\\u001b[?1000;1006hnow"]', END);
  const settings = (script: string) =>
    `before=$(stty -g); ${script}; echo status $?; [ "$before" = "$(stty -g)" ] && echo same`;
  const restored = String.raw`\u001b\[\?1049l\u001b\[\?25h\u001b\[\?1000l\u001b\[\?1006l[\r\n]+status`;
  const interrupted = await shown(t, settings(`${VPROXY} play ${path}`), 'junk\u0003');
  t.regex(interrupted, new RegExp(`${restored} 130\r\nsame\r\n$`));
  t.notRegex(interrupted, /late|junk/);
  // Without job control: the program in the background may use the terminal.
  const background = `${VPROXY} play ${path} < /dev/null & play=$!; read line; kill $play; wait $play`;
  t.regex(await shown(t, settings(background), '\r'), new RegExp(`${restored} 143\r\nsame\r\n$`));
});

test('prints the last marker, and that this terminal is smaller', async (t) => {
  const end = '[0, "m", "the recording ends here: why\\u001b"]';
  const text = await shown(t, `${VPROXY} play ${recording(t, HEADER.replace('80', '200'), '[0, "o", "x"]', end)}`);
  t.regex(text, /^vproxy: recorded at 200x24; this terminal is 101x33\r?\nx/);
  t.regex(text, /vproxy: the recording ends here: why\\x1b\r\n$/);
});

test('a bad line is reported in one line, after the output before it, and the terminal is restored', async (t) => {
  const path = recording(t, HEADER, '[0, "o", "\\u001b[?25lgood"]', '[0.1, "o", "cut');
  const text = await shown(t, `${VPROXY} play ${path}; echo status $?`);
  t.regex(text, /^\u001b\[\?25lgood.*\u001b\[\?25h\r\n/s);
  const said = text.replaceAll(/\u001b\[\d*m/g, '');
  t.true(said.endsWith(`vproxy: error: ${path}:3: not valid JSON, or cut off\r\nstatus 65\r\n`), text);
});

test('without a terminal it is rejected, except with --raw', async (t) => {
  const long = 'x'.repeat(200_000);
  const path = recording(t, HEADER, `[0, "o", "one${long}\\r\\n"]`, '[1, "i", "typed"]', END);
  const stderr = 'vproxy: error: play: standard output is not a terminal; --raw writes all output at once\n';
  t.deepEqual(await runVproxy(['play', path]), { code: 64, stdout: '', stderr });
  t.deepEqual(await runVproxy(['play', '--raw', path]), { code: 0, stdout: `one${long}\r\nlate`, stderr: '' });
});

test('a file that is not a recording is one error line, before an endless line fills the memory', async (t) => {
  const folder = temporaryFolder(t);
  const endless = join(folder, 'endless');
  writeFileSync(endless, `${HEADER}\n[0, "o", "${'x'.repeat(20_000_000)}`);
  for (const [path, message] of [
    [join(folder, 'gone'), ': '],
    [folder, ': '],
    [recording(t), ': empty file'],
    [recording(t, 'hello'), ':1: not valid JSON, or cut off'],
    [recording(t, '{"version":3}'), ':1: version 3, expected 2 (asciicast v2)'],
    [recording(t, HEADER, '', '{}'), ':3: not an event of a recording: expected [TIME, CODE, DATA]'],
    [endless, ':2: not valid JSON, or cut off'],
  ] as const) {
    const { code, stdout, stderr } = await callVproxy(['play', '--raw', path]);
    t.deepEqual([code, stdout], [65, '']);
    t.true(stderr.startsWith(`vproxy: error: ${path}${message}`) && /^[^\n]*\n$/.test(stderr), stderr);
  }
});

test('modes left on by a recording are switched off, even if their sequence spans two events', (t) => {
  const modes = new TerminalModes();
  const plain = modes.restoring();
  modes.follow('\u001b[?1049h\u001b[?2004h text \u001b[?20');
  modes.follow('04l\u001b[?2');
  modes.follow('5l\u001b[?7l\u001b[?7h');
  t.is(modes.restoring(), `${plain}\u001b[?1049l\u001b[?25h`);
  modes.follow('\u001b[?1049l\u001b[?12;25h');
  t.is(modes.restoring(), `${plain}\u001b[?12l`);
});
