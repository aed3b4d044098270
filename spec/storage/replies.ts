/** Files of recorded replies. */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { VproxyError } from '../../lib/errors.js';
import { matchesGlob, parseReplies, readReplies } from '../../lib/storage/replies.js';

const FIXTURE = fileURLToPath(new URL('../../../spec/fixtures/storage-replies.json', import.meta.url));

const parse = (file: unknown) => parseReplies(JSON.stringify(file), 'file.json');

test('the sample answers as a storage utility would', async (t) => {
  const replies = await readReplies(FIXTURE);
  t.is(replies.count, 5);
  const ask = (words: string) => replies.answer({ argv: ['/usr/sbin/storcli64', ...words.split(' ')] });
  for (const [words, status, stdout] of [
    ['--version', 0, /Storage Command Line Tool {2}Ver 007\.0606/],
    ['/c0 show', 0, /^Generating[^]*Virtual Drives = 1\n[^]*\n$/],
    ['/c0 show all', 0, /Controller Status = Optimal\n/],
    ['/c7 show', 2, /^/],
    ['/c3 show alarm', 0, /Alarm {5}ON/],
  ] as const) {
    t.is(ask(words).status, status, words);
    t.regex(String(ask(words).stdout), stdout);
  }
  t.deepEqual(ask('nonsense'), { stdout: '', stderr: 'syntax error, unexpected command\n', status: 1 });
});

test('the sample in the document is valid', async (t) => {
  const document = await readFile(new URL('../../../docs/storage.md', import.meta.url), 'utf8');
  const [sample] = [...document.matchAll(/```json\n([^`]*)```/g)]
    .map(([, block]) => block)
    .filter((block) => block?.includes('"replies"'));
  const replies = parseReplies(sample ?? '', 'docs/storage.md');
  t.is(replies.answer({ argv: ['/x/storcli64', '/c0', '/v3', 'del', 'force'] }).status, 57);
  t.is(replies.answer({ argv: ['/opt/old/storcli64', '--version'] }).stdout, 'no line feed at the end');
  t.is(replies.answer({ argv: ['storcli64'] }).status, 1);
});

test('exact command lines come before patterns, patterns in order, and the default last', (t) => {
  const replies = parse({
    default: { stdout: 'default' },
    replies: [
      { pattern: ['s', '/c*', '**'], stdout: 'open pattern' },
      { pattern: ['s', '/c?', 'show'], stdout: 'too late' },
      { argv: ['s', '/c0', 'show'], stdout: 'exact' },
      { argv: ['/opt/s', '/c0', 'show'], stdout: 'exact, of one folder' },
      { pattern: ['/x/*', 'show'], stdout: 'pattern of a folder' },
    ],
  });
  for (const [words, stdout] of [
    ['s /c0 show', 'exact'],
    ['/sbin/s /c0 show', 'exact'],
    ['/opt/s /c0 show', 'exact, of one folder'],
    ['/sbin/s /c1 show', 'open pattern'],
    ['s /c1', 'open pattern'],
    ['s', 'default'],
    ['s x /c0', 'default'],
    ['/x/s show', 'pattern of a folder'],
    ['/y/s show', 'default'],
    ['s show x', 'default'],
  ] as const)
    t.is(replies.answer({ argv: words.split(' ') }).stdout, stdout, words);
});

test('without a default, an unrecorded call fails with a line that names it', (t) => {
  t.deepEqual(parse({}).answer({ argv: ['s', 'a\nb'] }), { stderr: 'no recorded reply for: s a\\nb\n', status: 1 });
});

test('output may be a string, lines, or base64', (t) => {
  const reply = { argv: ['s'], stdoutBase64: '/wD/', stderr: ['one', '', 'two'], status: 255 };
  const replies = parse({ replies: [reply], default: { stdout: 'no line feed' } });
  const expected = { stdout: Buffer.from([255, 0, 255]), stderr: 'one\n\ntwo\n', status: 255 };
  t.deepEqual(replies.answer({ argv: ['s'] }), expected);
  t.is(replies.answer({ argv: ['x'] }).stdout, 'no line feed');
});

const good = { argv: ['s'] };
const BAD: readonly (readonly [file: unknown, message: string])[] = [
  ['{', ': not valid JSON: '],
  [[], ': not a JSON object'],
  [{ reply: [] }, ': unknown field "reply"'],
  [{ replies: {} }, ': replies: not a list'],
  [{ replies: [good, 7] }, ': replies[1]: not a JSON object'],
  [{ replies: [{}] }, ': replies[0]: needs either "argv" or "pattern"'],
  [{ replies: [{ argv: ['s'], pattern: ['s'] }] }, ': replies[0]: needs either'],
  [{ replies: [good, { pattern: [] }] }, ': replies[1].pattern: must be a non-empty list'],
  [{ replies: [{ argv: 's' }] }, ': replies[0].argv: must be a non-empty list'],
  [{ replies: [good, good] }, ': replies[1].argv: given twice'],
  [{ replies: [{ ...good, status: 256 }] }, ': replies[0].status: must be an integer'],
  [{ replies: [{ ...good, exit: 1 }] }, ': replies[0]: unknown field "exit"'],
  [{ replies: [{ ...good, stdout: 1 }] }, ': replies[0].stdout: must be a string or a list'],
  [{ replies: [{ ...good, stdoutBase64: '!' }] }, ': replies[0].stdoutBase64: not valid base64'],
  [{ replies: [{ ...good, stderr: '', stderrBase64: '' }] }, ': replies[0]: cannot have both "stderr"'],
  [{ default: { argv: ['s'] } }, ': default: unknown field "argv"'],
];

test('an invalid file is refused with the reason, in one line', (t) => {
  for (const [file, message] of BAD) {
    const text = typeof file === 'string' ? file : JSON.stringify(file);
    const error = t.throws(() => parseReplies(text, 'file.json'), { instanceOf: VproxyError, code: 'bad-file' });
    t.true(error.message.startsWith(`file.json${message}`) && !error.message.includes('\n'), error.message);
  }
});

test('the error for an unreadable file names it', async (t) => {
  await t.throwsAsync(readReplies('/nonexistent/file.json'), {
    code: 'bad-file',
    message: /\/nonexistent\/file\.json: no such file or directory \(ENOENT\)/,
  });
});

test('a pattern with many stars is fast', (t) => {
  t.false(matchesGlob(`${'*a'.repeat(30)}b`, 'a'.repeat(5000)));
});
