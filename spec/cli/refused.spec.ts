/** Commands that are refused, as a transcript: status 64, and one line with what is wrong and, where it can be known, what was meant. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { shellWords } from '../documents/shell-words.js';
import { parseTranscript } from '../documents/transcript.js';
import { callVproxy } from '../helpers/call-vproxy.js';
import { projectText, temporaryFolder } from '../helpers/files.js';
import { steeredPair } from '../helpers/proxies.js';
import { runVproxy } from '../helpers/vproxy-process.js';

// Serial, because some ask getent(1), which must answer in 5 s: a busy machine needs longer for all commands together.
for (const { command, output } of parseTranscript(projectText('spec/fixtures/refused-commands.txt'))) {
  test.serial(`refused: ${command.slice(0, 120)}`, async (t) => {
    const [, ...words] = shellWords(command);
    t.deepEqual(await callVproxy(words), { code: 64, stdout: '', stderr: `${output.join('\n')}\n` });
  });
}

test('control characters of a command line are escaped', async (t) => {
  for (const [words, shown] of [
    [['--mode=\u001b[2J', 'pipe-create'], '--mode: unknown option; see --help'],
    [['-c', 'stdio:', '-o', 'y:\u001b[2J'], '-o y:\\x1b[2J: not a valid ADDR:PORT'],
    [['libvirt-xml', '--path', '/run/a\nb'], '--path: "/run/a\\nb" contains invalid characters'],
  ] as const) {
    const { code, stderr } = await callVproxy(words);
    t.is(code, 64);
    t.true(stderr.startsWith(`vproxy: error: ${shown}`), stderr);
  }
});

test('words that are not UTF-8 are refused, and the character that Node puts in their place is not', (t) => {
  const program = fileURLToPath(new URL('../../cli/vproxy.js', import.meta.url));
  const run = (script: string) => {
    const words = ['-c', script, 'sh', process.execPath, program, temporaryFolder(t)];
    const { status, stderr } = spawnSync('sh', words, { encoding: 'utf8' });
    return [status, stderr.trimEnd()];
  };
  const socket = '--socket "$3/none"';
  const wrong = (word: string) => `vproxy: error: "${word}": not UTF-8`;
  for (const [script, word] of [
    [`"$1" "$2" exec ${socket} -n -- rm "$(printf 'a\\377')"`, 'a\\xff'],
    [`"$1" "$2" exec ${socket} -n -w "$(printf '/\\376')" -- ls`, '/\\xfe'],
    [`"$1" "$2" exec ${socket} --env "A=$(printf '\\377')" -n -- env`, 'A=\\xff'],
    [`A="$(printf '\\377')" "$1" "$2" exec ${socket} --env A -n -- env`, 'A=\\xff'],
    [`"$1" "$2" shell ${socket} vm1 "$(printf 'a\\377')"`, 'a\\xff'],
    [`"$1" "$2" copy ${socket} "$(printf 'a\\377')" vm1:/`, 'a\\xff'],
  ] as const) {
    t.deepEqual(run(script), [64, wrong(word)], script);
  }
  t.deepEqual(run(`"$1" "$2" exec --failure-status 255 ${socket} -n -- "$(printf '\\377')"`), [255, wrong('\\xff')]);
  const [status, stderr] = run(`A=\ufffd "$1" "$2" exec ${socket} --env A -n -- rm \ufffd`);
  t.is(status, 125);
  t.regex(String(stderr), /no process answers|does not exist/);
});

test('a folder that is missing behind a path is named', async (t) => {
  const folder = temporaryFolder(t);
  const none = join(folder, 'none');
  for (const [words, line] of [
    [`-c unix-listen:${none}/x`, `cannot listen on ${none}/x: its folder does not exist`],
    [`-c unix-listen:${folder}/c -o x:${none}/x`, `cannot listen on ${none}/x: its folder does not exist`],
    [`-c unix-listen:${folder}/c -i x:file:${none}/x`, `cannot write ${none}/x: its folder does not exist`],
  ] as const) {
    const { code, stderr } = await runVproxy(words.split(' '));
    t.deepEqual([code, stderr], [69, `vproxy: error: ${line}\n`], words);
  }
  const { stderr } = await callVproxy(['status', '--socket', '/etc/passwd']);
  t.is(stderr, 'vproxy: error: no process answers on /etc/passwd: not a socket\n');
});

test('a forward for a service that the peer lacks is added with a warning, and listed as not offered', async (t) => {
  const here = { incoming: ['own:127.0.0.1:9'] };
  const { run } = await steeredPair(t, { here, peer: { incoming: ['web:127.0.0.1:9'] } });
  const { code, stderr } = await run('forward', 'add', '-o', 'registry:127.0.0.1:0');
  t.deepEqual([code, stderr], [0, 'vproxy: warning: the peer offers no service registry; it offers: web\n']);
  t.is((await run('forward', 'add', '-o', 'web:127.0.0.1:0')).stderr, '');
  const { stdout } = await run('forwards');
  t.regex(stdout, / registry +127\.0\.0\.1:\d+ +not offered +0 +0\n/);
  t.regex(stdout, / web +127\.0\.0\.1:\d+ +active +0 +0\n/);
  const listed = JSON.parse((await run('forwards', '--json')).stdout) as { service: string; offered: boolean }[];
  t.deepEqual(Object.fromEntries(listed.map(({ service, offered }) => [service, offered])), {
    own: null,
    registry: false,
    web: true,
  });
});
