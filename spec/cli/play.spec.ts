/** `vproxy play`, as a person at a terminal sees it, and as a pipe does. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { TerminalModes } from '../../cli/ui/terminal-modes.js';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { runInTerminal } from '../helpers/terminals.js';
import { within } from '../helpers/time.js';
import { runVproxy } from '../helpers/vproxy-process.js';

const HEADER = '{"version": 2, "width": 80, "height": 24}';

const VPROXY = `${process.execPath} ${join(PROJECT_ROOT, 'dist/program/vproxy.cjs')}`;

/** A file with these lines. */
function recording(t: ExecutionContext, ...lines: readonly string[]): string {
  const path = join(temporaryFolder(t), 'a.cast');
  writeFileSync(path, lines.map((line) => `${line}\n`).join(''));
  return path;
}

test('shows what was shown and nothing that was typed, and ends with the recording', async (t) => {
  const path = recording(t, HEADER, '[0, "o", "\\u001b[1mone\\r\\n"]', '[0.01, "i", "typed"]', '[0.02, "o", "two"]');
  const { ended } = await runInTerminal(t, `${VPROXY} play ${path}; echo status $?`);
  const { text } = await within(30_000, 'the end of the recording', ended);
  t.regex(text, /^\u001b\[1mone\r\ntwo\u001b\[m.*\r\nstatus 0\r\n$/s);
});

test('a line may be longer than what is read of a file at once', async (t) => {
  const long = 'x'.repeat(200_000);
  const path = recording(t, HEADER, `[0, "o", "${long}"]`, '[0, "o", "end"]');
  const { code, stdout } = await runVproxy(['play', '--raw', path]);
  t.deepEqual([code, stdout.length, stdout.slice(-4)], [0, long.length + 3, 'xend']);
});

test('keeps the pace, which can be faster, and pauses that can be shorter', async (t) => {
  const path = recording(t, HEADER, '[0, "o", "one"]', '[36000, "o", "two"]', '[36001.2, "o", "three"]');
  const startedAtMs = performance.now();
  const { ended } = await runInTerminal(t, `${VPROXY} play --idle-limit 2 --speed 4 ${path}; echo status $?`);
  const { text } = await within(30_000, 'the end of the recording', ended);
  t.regex(text, /^onetwothree.*status 0\r\n$/s);
  t.true(performance.now() - startedAtMs >= 800, 'two pauses, of 2 s and 1.2 s, four times as fast');
});

test('Ctrl-C ends it, and the terminal is as it was', async (t) => {
  const path = recording(
    t,
    HEADER,
    '[0, "o", "\\u001b[?1049h\\u001b[?25l\\u001b[?1000;1006hnow"]',
    '[9999, "o", "late"]',
  );
  const script = `before=$(stty -g); ${VPROXY} play ${path}; echo status $?; [ "$before" = "$(stty -g)" ] && echo same`;
  const { shows, type, ended } = await runInTerminal(t, script);
  await shows(/now$/);
  type('junk\u0003');
  const { text } = await within(30_000, 'the end of the script', ended);
  t.regex(text, /\u001b\[\?1049l\u001b\[\?25h\u001b\[\?1000l\u001b\[\?1006l\r\nstatus 130\r\nsame\r\n$/);
  t.false(text.includes('late'));
  t.false(text.includes('junk'));
});

test('SIGTERM does the same', async (t) => {
  const path = recording(t, HEADER, '[0, "o", "\\u001b[?25lnow"]', '[9999, "o", "late"]');
  const script = `before=$(stty -g); ${VPROXY} play ${path} & play=$!; read line; kill $play; wait $play; echo status $?
    [ "$before" = "$(stty -g)" ] && echo same`;
  // Without job control: the program in the background may use the terminal.
  const { shows, type, ended } = await runInTerminal(t, script.replace(' & play', ' < /dev/null & play'));
  await shows(/now$/);
  type('\r');
  const { text } = await within(30_000, 'the end of the script', ended);
  t.regex(text, /\u001b\[\?25h[\r\n]+status 143\r\nsame\r\n$/);
});

test('says what the last marker says, and that this terminal is smaller', async (t) => {
  const path = recording(
    t,
    '{"version":2,"width":200,"height":50}',
    '[0, "o", "x"]',
    '[0, "m", "the recording ends here: why\\u001b"]',
  );
  const { ended } = await runInTerminal(t, `${VPROXY} play ${path}`);
  const { text } = await within(30_000, 'the end of the recording', ended);
  t.regex(text, /^vproxy: recorded at 200x50; this terminal has 101x33\r?\nx/);
  t.regex(text, /vproxy: the recording ends here: why\\x1b\r\n$/);
});

test('a bad line is one line that names it, after what came before, and the terminal is as it was', async (t) => {
  const path = recording(t, HEADER, '[0, "o", "\\u001b[?25lgood"]', '[0.1, "o", "cut');
  const { ended } = await runInTerminal(t, `${VPROXY} play ${path}; echo status $?`);
  const { text } = await within(30_000, 'the end of the recording', ended);
  t.regex(text, /^\u001b\[\?25lgood.*\u001b\[\?25h\r\n/s);
  const said = text.replaceAll(/\u001b\[\d*m/g, '');
  t.true(said.endsWith(`vproxy: error: ${path}:3: it is no JSON, or cut off\r\nstatus 65\r\n`), text);
});

test('without a terminal it is refused, unless all is to be written at once', async (t) => {
  const path = recording(t, HEADER, '[0, "o", "one\\r\\n"]', '[1, "i", "typed"]', '[9999, "o", "two"]');
  const refused = await runVproxy(['play', path]);
  t.is(refused.stderr, 'vproxy: error: play: standard output is no terminal; --raw writes all of it at once\n');
  t.is(refused.code, 64);
  const raw = await runVproxy(['play', '--raw', path]);
  t.deepEqual([raw.code, raw.stdout, raw.stderr], [0, 'one\r\ntwo', '']);
});

test('what is no recording is said in one line', async (t) => {
  const folder = temporaryFolder(t);
  const fails = async (path: string, message: string) => {
    const { code, stdout, stderr } = await runVproxy(['play', '--raw', path]);
    t.deepEqual([code, stdout], [65, '']);
    t.true(stderr.startsWith(`vproxy: error: ${path}${message}`) && /^[^\n]*\n$/.test(stderr), stderr);
  };
  await fails(join(folder, 'gone'), ': ');
  await fails(folder, ': ');
  await fails(recording(t), ': it is empty');
  await fails(recording(t, 'hello'), ':1: it is no JSON, or cut off');
  await fails(recording(t, '{"version":3}'), ':1: version 3, expected 2 (asciicast v2)');
  await fails(recording(t, HEADER, '', '{}'), ':3: it is no event of a recording: [TIME, CODE, DATA]');
});

test('a line without an end is refused before it fills the memory', async (t) => {
  const path = join(temporaryFolder(t), 'a.cast');
  writeFileSync(path, `${HEADER}\n[0, "o", "${'x'.repeat(20_000_000)}`);
  const { code, stderr } = await runVproxy(['play', '--raw', path]);
  t.deepEqual([code, stderr], [65, `vproxy: error: ${path}:2: it is no JSON, or cut off\n`]);
});

test('modes that are on when a recording ends are switched off, also where two events share what switched them on', (t) => {
  const modes = new TerminalModes();
  const plain = modes.restoring();
  modes.follow('\u001b[?1049h\u001b[?2004h text \u001b[?20');
  modes.follow('04l\u001b[?2');
  modes.follow('5l\u001b[?7l\u001b[?7h');
  t.is(modes.restoring(), `${plain}\u001b[?1049l\u001b[?25h`);
  modes.follow('\u001b[?1049l\u001b[?12;25h');
  t.is(modes.restoring(), `${plain}\u001b[?12l`);
});
