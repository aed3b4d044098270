/** The runner fails if a document is wrong, reports where, and leaves nothing behind. */
import { existsSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import type { ExecutionContext } from 'ava';
import { serialTestWith } from '../helpers/test-with.js';
import { play } from './runner/play.js';

const SCENE_MS = 120_000;

/** Plays a document of these lines in the scene `empty`. */
const playLines = (...lines: string[]) => play('a.md', 'empty', SCENE_MS, `${lines.join('\n')}\n`);

/** The error message for such a document. */
async function failureOf(t: ExecutionContext, ...lines: string[]): Promise<string> {
  return (await t.throwsAsync(playLines(...lines))).message;
}

serialTestWith('ip')('blocks run in order, in one shell, with private folders and their own network', async (t) => {
  await playLines(
    ...['<!-- file: /etc/vproxy/a.toml in empty -->', '```toml', 'a = 1', '```'],
    ...['<!-- run: empty -->', '```sh', 'X=1; cd /srv; touch /usr/sbin/of-a-scene', '```'],
    ...['<!-- run: empty -->', '```sh', 'test "$X $PWD" = "1 /srv"; grep -q "a = 1" /etc/vproxy/a.toml', '```'],
    ...['<!-- run: empty -->', '```console', '$ test -t 0 || echo no terminal', 'no terminal', '```'],
    ...['<!-- run: empty -->', '```console', '# ls /run/vproxy', 'ls: cannot …', '```'],
    ...['<!-- run: empty -->', '```console', '$ ps -e -o comm= | head -1; ls /tmp', 'bash', '…', 'home', '…', '```'],
    ...['<!-- run: empty -->', '```console', '$ ip -brief link | wc -l; echo ~; pwd', '1', '/tmp/home', '/srv', '```'],
  );
  t.false(existsSync('/usr/sbin/of-a-scene'));
});

serialTestWith('ip')('a command that fails is named with its line, its status and its output', async (t) => {
  const message = await failureOf(
    t,
    '<!-- run: empty -->',
    '```sh',
    'echo said',
    'if false; then :; fi',
    'sh -c "exit 7"',
    '```',
  );
  t.regex(message, /^a\.md:5: sh -c "exit 7"\nended with status 7, and printed\nsaid$/);
});

serialTestWith('ip')('a variable that is not set, and a word that is no command, are failures', async (t) => {
  const unbound = await failureOf(t, '<!-- run: empty -->', '```sh', 'echo $NOTHING', '```');
  t.regex(unbound, /a\.md: line 3: NOTHING: unbound/);
  const missing = await failureOf(t, '<!-- run: empty -->', '```sh', 'true', 'no-such-program', '```');
  t.regex(missing, /^a\.md:4: .*status 127/s);
});

serialTestWith('ip')('a transcript that differs from the output fails, and so does a silent failure', async (t) => {
  const message = await failureOf(t, '<!-- run: empty -->', '```console', '$ echo a', 'a', '$ echo b', 'c', '```');
  t.regex(message, /^a\.md:5: echo b\nstatus 0, it printed\nb\n\nwhere the document has\nc$/);
  const failed = await failureOf(t, '<!-- run: empty -->', '```console', '$ false', '```');
  t.regex(failed, /^a\.md:3: false\nended with status 1/);
});

serialTestWith('ip')('a block that stays is up before the next one; one that does not get up fails', async (t) => {
  const listen = ['<!-- run: empty stays -->', '```sh', 'vproxy --name a -c unix-listen:/run/a.sock', '```'];
  await playLines(...listen, '<!-- run: empty -->', '```sh', 'vproxy status --name a', '```');
  const wrong = await failureOf(t, '<!-- run: empty stays -->', '```sh', 'vproxy -c nonsense:/run/a.sock', '```');
  t.regex(wrong, /^a\.md:3: vproxy -c nonsense.*is not ready \(it ended\):\nvproxy: error: /s);
});

serialTestWith('ip')('who takes the channel of a block that stays has it alone', async (t) => {
  const listen = ['<!-- run: empty stays -->', '```sh', 'vproxy -c unix-listen:/run/a.sock', '```'];
  await playLines(...listen, ...listen, '<!-- run: empty -->', '```sh', 'vproxy status', '```');
  t.pass();
});

serialTestWith('ip')('a scene that is late or unknown is a failure, and nothing of it stays', async (t) => {
  const late = play('a.md', 'empty', 1000, '<!-- run: empty -->\n```sh\nsleep 60\n```\n');
  t.regex((await t.throwsAsync(late)).message, /took longer than 1000 ms/);
  t.regex((await t.throwsAsync(play('a.md', 'nowhere', SCENE_MS, ''))).message, /no scene "nowhere"/);
  // Scenes of other processes may be running.
  const isOurs = (name: string): boolean => name.startsWith(`vproxy-scene-${process.pid}-`);
  t.deepEqual(readdirSync(tmpdir()).filter(isOurs), []);
});
