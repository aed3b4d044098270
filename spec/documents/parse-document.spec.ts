/** The parser of documents finds every block, and complains about each that no spec would run. */
import test from 'ava';
import { commandLinesOf, hasPlaceholder, vproxyCallsIn } from './commands-of.js';
import { parseMarker } from './marker.js';
import { parseDocument } from './parse-document.js';
import { shellWords } from './shell-words.js';
import { matchesTranscript, parseTranscript } from './transcript.js';

const parse = (...lines: string[]) => parseDocument('a.md', lines.join('\n'));

test('a block has the marker above it, also in a list, and behind an empty line', (t) => {
  const { blocks, complaints } = parse('- text', '', '  <!-- run: here -->', '', '  ```sh', '  true', '  ```');
  t.deepEqual(complaints, []);
  t.deepEqual(blocks, [
    {
      ...{ document: 'a.md', line: 6, language: 'sh', text: 'true\n' },
      marker: { kind: 'run', scene: 'here', place: 'host', stays: false },
    },
  ]);
});

test('commands without a marker, and markers without commands, are complaints', (t) => {
  const complaintsAbout = (...lines: string[]) => parse(...lines).complaints;
  t.deepEqual(complaintsAbout('```sh', 'true', '```'), ['a.md:2: a block of commands without a marker']);
  t.deepEqual(complaintsAbout('<!-- run: here -->', '', 'text', '', '```text', '```'), [
    'a.md:1: there is no block below this marker',
  ]);
  t.deepEqual(complaintsAbout('<!-- run: here -->'), ['a.md:1: there is no block below this marker']);
  t.deepEqual(complaintsAbout('<!-- run: here -->', '```text', '```'), ['a.md:3: a marker for commands above "text"']);
  t.deepEqual(complaintsAbout('<!-- file: /a in here -->', '```sh', '```'), [
    'a.md:3: a block of commands is no file: it needs another language',
  ]);
  t.deepEqual(complaintsAbout('```', '```'), [
    'a.md:2: a block without a language; "text" is that of what is no command',
  ]);
  t.deepEqual(complaintsAbout('<!-- not run: -->', '```text', '```'), ['a.md:1: "not run" has no reason']);
  t.deepEqual(complaintsAbout('<!-- an ordinary comment -->'), []);
});

test('indented blocks are found, and those in a fence are none', (t) => {
  t.deepEqual(parse('text', '', '    vproxy -c x').indentedLines, [3]);
  t.deepEqual(parse('```text', '', '    vproxy -c x', '```').indentedLines, []);
});

test('a marker is one of five forms', (t) => {
  const run = { kind: 'run', scene: 'two-vms' } as const;
  t.deepEqual(parseMarker('<!-- run: two-vms -->'), { ...run, place: 'host', stays: false });
  t.deepEqual(parseMarker('<!-- run: two-vms in the guest stays -->'), { ...run, place: 'guest', stays: true });
  t.deepEqual(parseMarker('<!-- not run: because -->'), { kind: 'not-run', reason: 'because' });
  t.deepEqual(parseMarker('<!-- not run here: spec/a.spec.ts runs it -->'), {
    ...{ kind: 'run-elsewhere', spec: 'spec/a.spec.ts' },
  });
  t.deepEqual(parseMarker('<!-- file: /a/b in here -->'), { kind: 'file', path: '/a/b', scene: 'here' });
  t.is(parseMarker('<!-- anything -->'), null);
  for (const wrong of ['run: a b', 'run: Scene', 'run: a stays in the guest', 'file: /a', 'not run here: somebody']) {
    t.throws(() => parseMarker(`<!-- ${wrong} -->`), undefined, wrong);
  }
});

test('a transcript has commands with what they print, and its ellipses stand for anything', (t) => {
  t.deepEqual(parseTranscript('$ echo \\\n  a\na\n# true\n'), [
    { line: 0, command: 'echo \\\n  a', output: ['a'] },
    { line: 3, command: 'true', output: [] },
  ]);
  t.throws(() => parseTranscript('a\n'));
  t.true(matchesTranscript(['pid …, up … s', 'b'], 'pid 1, up 2 s  \nb\n\n'));
  t.true(matchesTranscript(['a', '…', 'b'], 'a\nx\ny\nb\n'));
  t.true(matchesTranscript(['a', '…'], 'a\n'));
  t.true(matchesTranscript([], ''));
  t.false(matchesTranscript(['a', '…', 'b'], 'a\nx\n'));
  t.false(matchesTranscript(['a.c'], 'abc\n'));
  t.false(matchesTranscript(['a'], 'a\nb\n'));
  t.false(matchesTranscript([], 'a\n'));
});

test('the command lines of a block, the calls of vproxy in them, and their words', (t) => {
  const [block] = parse('<!-- run: a -->', '```sh', '# no', 'vproxy a \\', '  b', '', 'c # d', '```').blocks;
  t.deepEqual(block === undefined ? [] : commandLinesOf(block), [
    { line: 4, text: 'vproxy a \\\n  b' },
    { line: 7, text: 'c # d' },
  ]);
  const calls = (text: string) => vproxyCallsIn(text).map(shellWords);
  t.deepEqual(calls("if ! vproxy exec a 'b c' | grep d; then vproxy stop; fi"), [['exec', 'a', 'b c'], ['stop']]);
  t.deepEqual(calls("ssh -o ProxyCommand='vproxy connect a/b' vm1"), [['connect', 'a/b']]);
  t.deepEqual(calls('addgroup vproxy vproxy; ls /vproxy x'), []);
  t.deepEqual(shellWords('a "b \\"c\\" d" e\\ f \\\n g # h'), ['a', 'b "c" d', 'e f', 'g']);
  for (const text of ['-c CHANNEL', 'exec [LABEL:]', 'log-level error|warn', 'a …']) t.true(hasPlaceholder(text), text);
  for (const text of ['-c a:b | c', 'exec -t top', 'exec --env LANG=C a']) t.false(hasPlaceholder(text), text);
});
