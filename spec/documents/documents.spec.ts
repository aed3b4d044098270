/**
 * Every command in the documents is run by a spec or has a reason why not, and is accepted by the parser; also the parsing
 * of documents and command lines for these checks.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import test from 'ava';
import { PROJECT_ROOT, projectText } from '../helpers/files.js';
import { checkCommandLine, isCommandName } from './check-command-line.js';
import { commandLinesOf, hasPlaceholder, vproxyCallsIn } from './commands-of.js';
import { listDocuments } from './document-list.js';
import { parseMarker } from './marker.js';
import { COMMAND_LANGUAGES, parseDocument, scenesOf } from './parse-document.js';
import { SCENES } from './scenes/index.js';
import { shellWords } from './shell-words.js';
import { matchesTranscript, parseTranscript } from './transcript.js';

const documents = listDocuments().map((path) => parseDocument(path, projectText(path)));

for (const document of documents) {
  const { path, blocks } = document;

  test(`every block of commands in ${path} names the spec that runs it, or why none does`, (t) => {
    t.deepEqual(document.complaints, []);
    t.deepEqual(
      document.indentedLines.map((line) => `${path}:${line}: an indented block; a fence says what it is`),
      [],
    );
    for (const scene of scenesOf(blocks)) t.true(scene in SCENES, `${path}: there is no scene "${scene}"`);
  });

  test(`the commands of ${path} that other specs run are in those specs`, (t) => {
    for (const block of blocks) {
      const reason = block.marker?.kind === 'not-run' ? block.marker.reason : '';
      for (const [spec] of reason.matchAll(/\bspec\/\S+\.ts\b/g)) {
        t.true(existsSync(join(PROJECT_ROOT, spec)), `${path}:${block.line}: there is no ${spec}`);
      }
      if (block.marker?.kind !== 'run-elsewhere') continue;
      const file = join(PROJECT_ROOT, block.marker.spec);
      t.true(existsSync(file), `${path}:${block.line}: there is no ${block.marker.spec}`);
      const spec = existsSync(file) ? readFileSync(file, 'utf8') : '';
      // Verbatim, taken from the document, or composed of its words.
      const isTaken = [path, basename(path)].some((name) => spec.includes(`'${name}'`));
      for (const { line, text } of commandLinesOf(block)) {
        t.true(isTaken || isIn(spec, text), `${path}:${line}: not in ${block.marker.spec}: ${text}`);
      }
    }
    t.pass();
  });

  test(`the calls of vproxy in ${path} are valid`, async (t) => {
    for (const block of blocks) {
      if (!COMMAND_LANGUAGES.includes(block.language)) continue;
      for (const { line, text } of commandLinesOf(block)) {
        for (const call of vproxyCallsIn(text)) if (!hasPlaceholder(call)) await checkCall(`${path}:${line}`, call);
      }
    }
    for (const { line, text } of document.inline) {
      const [call] = text.startsWith('vproxy ') ? vproxyCallsIn(text) : [];
      if (call === undefined || hasPlaceholder(call) || isCommandName(call.split(' '))) continue;
      await checkCall(`${path}:${line}`, call);
    }
    t.pass();

    async function checkCall(where: string, call: string): Promise<void> {
      await t.notThrowsAsync(checkCommandLine(shellWords(call)), `${where}: vproxy ${call}`);
    }
  });
}

/** Whether a spec contains a command line, or the words of its call of vproxy in order, with anything in between. */
function isIn(spec: string, text: string): boolean {
  const squeeze = (code: string) => code.replace(/['"`,[\]\\\s]/g, '');
  const calls = vproxyCallsIn(text).map((call) => squeeze(shellWords(call).join('')));
  // A single short word would match anywhere.
  return [squeeze(text), ...calls.filter((words) => words.length > 12)].some((words) => squeeze(spec).includes(words));
}

test('every scene belongs to a document', (t) => {
  const used = new Set(documents.flatMap(({ blocks }) => scenesOf(blocks)));
  const unused = Object.keys(SCENES).filter((scene) => !used.has(scene));
  t.deepEqual(unused, []);
});

test('the README of the examples has a command for each, and each imports only the public API of vproxy', (t) => {
  const folder = join(PROJECT_ROOT, 'examples');
  const names = readdirSync(folder).filter((name) => name.endsWith('.ts'));
  const commands = [...projectText('examples/README.md').matchAll(/^node dist\/examples\/([a-z-]+)\.js/gm)];
  t.deepEqual(commands.map(([, name]) => `${name}.ts`).sort(), names.sort());
  for (const name of names) {
    const imports = [...readFileSync(join(folder, name), 'utf8').matchAll(/ from '([^']+)'/g)].map(([, from]) => from);
    const packages = imports.filter((from) => from?.startsWith('node:') === false);
    t.deepEqual(packages, ['vproxy']);
  }
});

const parse = (...lines: string[]) => parseDocument('a.md', lines.join('\n'));

test('a block has the marker above it, even in a list, or after an empty line', (t) => {
  const { blocks, complaints } = parse('- text', '', '  <!-- run: here -->', '', '  ```sh', '  true', '  ```');
  t.deepEqual(complaints, []);
  t.deepEqual(blocks, [
    {
      ...{ document: 'a.md', line: 6, language: 'sh', text: 'true\n' },
      marker: { kind: 'run', scene: 'here', place: 'host', stays: false },
    },
  ]);
});

test('commands without a marker, and markers without commands, are reported', (t) => {
  const run = '<!-- run: here -->';
  for (const [lines, complaint] of [
    [['```sh', 'true', '```'], '2: a block of commands without a marker'],
    [[run, '', 'text', '', '```text', '```'], '1: there is no block below this marker'],
    [[run], '1: there is no block below this marker'],
    [[run, '```text', '```'], '3: a marker for commands above "text"'],
    [['<!-- file: /a in here -->', '```sh', '```'], '3: a block of commands is no file: it needs another language'],
    [['```', '```'], '2: a block without a language; "text" is that of what is no command'],
    [['<!-- not run: -->', '```text', '```'], '1: "not run" has no reason'],
  ] as const) {
    t.deepEqual(parse(...lines).complaints, [`a.md:${complaint}`]);
  }
  t.deepEqual(parse('<!-- an ordinary comment -->').complaints, []);
});

test('indented blocks are found, but not inside a fence', (t) => {
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

test('a transcript has commands with their output, and an ellipsis matches anything', (t) => {
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

test('command lines are checked for options, operands and values of every kind of command', async (t) => {
  const check = (line: string) => checkCommandLine(line.split(' '));
  const rights = ['-c unix-connect:/run/a -o ssh:22', '--config /a', 'exec -t top', 'stop', 'check /a', '--version'];
  for (const right of rights) await t.notThrowsAsync(check(right), right);
  for (const wrong of [
    ...['-c nonsense:/run/a', '-c unix-connect:/run/a -o ssh', '--no-such', 'exec --no-such', 'stop now', 'check'],
    ...['forward', 'no-such-command', 'ping --no-such'],
  ]) {
    await t.throwsAsync(check(wrong), undefined, wrong);
  }
});
