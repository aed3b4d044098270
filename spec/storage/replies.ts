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
  const ask = (...args: string[]) => replies.answer({ argv: ['/usr/sbin/storcli64', ...args] });
  t.regex(String(ask('--version').stdout), /Storage Command Line Tool {2}Ver 007\.0606/);
  t.regex(String(ask('/c0', 'show').stdout), /^Generating[^]*Virtual Drives = 1\n[^]*\n$/);
  t.regex(String(ask('/c0', 'show', 'all').stdout), /Controller Status = Optimal\n/);
  t.is(ask('/c0', 'show').status, 0);
  t.is(ask('/c7', 'show').status, 2);
  t.regex(String(ask('/c3', 'show', 'alarm').stdout), /Alarm {5}ON/);
  t.deepEqual(ask('nonsense'), { stdout: '', stderr: 'syntax error, unexpected command\n', status: 1 });
});

test('the sample in the document is one', async (t) => {
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
  const ask = (...argv: string[]) => replies.answer({ argv }).stdout;
  t.is(ask('s', '/c0', 'show'), 'exact');
  t.is(ask('/sbin/s', '/c0', 'show'), 'exact');
  t.is(ask('/opt/s', '/c0', 'show'), 'exact, of one folder');
  t.is(ask('/sbin/s', '/c1', 'show'), 'open pattern');
  t.is(ask('s', '/c1'), 'open pattern');
  t.is(ask('s'), 'default');
  t.is(ask('s', 'x', '/c0'), 'default');
  t.is(ask('/x/s', 'show'), 'pattern of a folder');
  t.is(ask('/y/s', 'show'), 'default');
  t.is(ask('s', 'show', 'x'), 'default');
});

test('without a default, what is not recorded fails with a line that names it', (t) => {
  t.deepEqual(parse({}).answer({ argv: ['s', 'a\nb'] }), { stderr: 'no recorded reply for: s a\\nb\n', status: 1 });
});

test('output may be a text, lines, or base64', (t) => {
  const replies = parse({
    replies: [{ argv: ['s'], stdoutBase64: '/wD/', stderr: ['one', '', 'two'], status: 255 }],
    default: { stdout: 'no line feed' },
  });
  t.deepEqual(replies.answer({ argv: ['s'] }), {
    stdout: Buffer.from([255, 0, 255]),
    stderr: 'one\n\ntwo\n',
    status: 255,
  });
  t.is(replies.answer({ argv: ['x'] }).stdout, 'no line feed');
});

const badFile = test.macro({
  exec: (t, file: unknown, message: string) => {
    const text = typeof file === 'string' ? file : JSON.stringify(file);
    const error = t.throws(() => parseReplies(text, 'file.json'), { instanceOf: VproxyError, code: 'bad-file' });
    t.true(error.message.startsWith(message), error.message);
    t.false(error.message.includes('\n'));
  },
  title: (_title, _file: unknown, message: string) => `a file is refused with: ${message}`,
});

const good = { argv: ['s'] };
test(badFile, '{', 'file.json: is no JSON');
test(badFile, [], 'file.json is no JSON object');
test(badFile, { reply: [] }, 'file.json has an unknown field "reply"');
test(badFile, { replies: {} }, 'file.json: replies is no list');
test(badFile, { replies: [good, 7] }, 'file.json: replies[1] is no JSON object');
test(badFile, { replies: [{}] }, 'file.json: replies[0] needs either "argv" or "pattern"');
test(badFile, { replies: [{ argv: ['s'], pattern: ['s'] }] }, 'file.json: replies[0] needs either');
test(badFile, { replies: [good, { pattern: [] }] }, 'file.json: replies[1].pattern is no list');
test(badFile, { replies: [{ argv: 's' }] }, 'file.json: replies[0].argv is no list');
test(badFile, { replies: [good, good] }, 'file.json: replies[1].argv is there twice');
test(badFile, { replies: [{ ...good, status: 256 }] }, 'file.json: replies[0].status is no integer');
test(badFile, { replies: [{ ...good, exit: 1 }] }, 'file.json: replies[0] has an unknown field "exit"');
test(badFile, { replies: [{ ...good, stdout: 1 }] }, 'file.json: replies[0].stdout is neither');
test(badFile, { replies: [{ ...good, stdoutBase64: '!' }] }, 'file.json: replies[0].stdoutBase64 is not base64');
test(badFile, { replies: [{ ...good, stderr: '', stderrBase64: '' }] }, 'file.json: replies[0] has both "stderr"');
test(badFile, { default: { argv: ['s'] } }, 'file.json: default has an unknown field "argv"');

test('a file that cannot be read is named', async (t) => {
  await t.throwsAsync(readReplies('/nonexistent/file.json'), {
    code: 'bad-file',
    message: /\/nonexistent\/file\.json: there is no such file or folder \(ENOENT\)/,
  });
});

test('a pattern of many stars takes no long time', (t) => {
  t.false(matchesGlob(`${'*a'.repeat(30)}b`, 'a'.repeat(5000)));
});
