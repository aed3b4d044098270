/** Commands and copies that survive the loss of their channel's link, between real processes (docs/channels.md, "Resuming"). */
import { randomBytes, randomInt } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { ONE_SESSION, processPair } from '../helpers/process-pair.js';
import { failureOf, localServer, localSocket } from '../helpers/proxies.js';
import { CuttingRelay } from '../helpers/relays.js';
import { runPiped, spawnVproxy } from '../helpers/vproxy-process.js';

const RESUMED = /\bresumed after \d+ ms\b/;
const OFFERS = /\bthe peer offers: /;

/** Two processes with a session through a relay; the guest allows commands and copies. */
async function setUp(t: ExecutionContext) {
  const { relay, near, far } = await CuttingRelay.between(t);
  const { host, guest, env, sessions, folder } = await processPair(t, {
    ...{ control: 'host', hostPath: `${far},resume=60s`, guestPath: `${near},resume=60s` },
    ...{ host: ['-v'], guest: ['-v', '--allow-exec', '--allow-copy'] },
  });
  await Promise.all([host, guest].map((side) => side.waitForLine(OFFERS)));
  const start = (...words: readonly string[]) => runPiped(t, words, env);
  /** Cuts the channel repeatedly, each time after a random number of bytes, both ways together, up to a bound. */
  const cutAgainAndAgain = (maxBytes: number): void => {
    relay.onCut = () => {
      relay.leftBytes = randomInt(1, maxBytes);
      guest.kill('SIGHUP');
    };
    relay.leftBytes = randomInt(1, maxBytes);
  };
  const checkOneSession = (): number => {
    t.deepEqual(sessions(), ONE_SESSION);
    return host.lines.filter((line) => RESUMED.test(line)).length;
  };
  return { folder, relay, host, guest, start, cutAgainAndAgain, checkOneSession };
}

test.serial('a shell continues where it was', async (t) => {
  const { relay, guest, host, start, checkOneSession } = await setUp(t);
  const { child, output, ended } = start('exec', '--', 'sh');
  child.stdin.write('x=kept; echo begun\n');
  await once(child.stdout, 'readable');
  relay.leftBytes = 0;
  relay.cut();
  await Promise.all([host, guest].map((side) => side.waitForLine(/lost; waiting to resume \(\d+ streams?\)/)));
  child.stdin.write('echo "$x"; exit 7\n');
  relay.leftBytes = Number.POSITIVE_INFINITY;
  guest.kill('SIGHUP');
  const [bytes, { code, stderr }] = await Promise.all([output, ended]);
  t.deepEqual({ code, stdout: bytes.toString(), stderr }, { code: 7, stdout: 'begun\nkept\n', stderr: '' });
  t.is(checkOneSession(), 1);
});

test.serial('the output of a command, and a copy, are complete, however often the channel is cut', async (t) => {
  const { folder, start, cutAgainAndAgain, checkOneSession } = await setUp(t);
  const source = randomBytes(20_000_000);
  const [from, to] = [join(folder, 'from'), join(folder, 'to')];
  writeFileSync(from, source);
  cutAgainAndAgain(3_000_000);
  const commands = [start('exec', '-n', 'cat', from), start('copy', from, `default:${to}`)];
  const results = await Promise.all(commands.map(({ output, ended }) => Promise.all([output, ended])));
  for (const [, { code, stderr }] of results) t.deepEqual({ code, stderr }, { code: 0, stderr: '' });
  t.true(results[0]?.[0].equals(source));
  t.true(readFileSync(to).equals(source));
  t.true(checkOneSession() >= 10);
});

test.serial('an inherited channel has no next link: its end ends the session and the process', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const failures: Promise<NodeJS.ErrnoException>[] = [];
  const target = await localServer(t, (socket) => {
    failures.push(failureOf(socket));
    socket.write('hello');
  });
  const far = spawnVproxy(t, ['-c', `unix-listen:${path},resume=60s`, '-o', 'hello:127.0.0.1:0', '-v']);
  const [port] = await Promise.all([far.listeningPort('hello'), far.waitForLine(/\bwaiting for the peer on /)]);
  const command = ['--no-control', '-c', 'stdio:,resume=60s', '-i', `hello:127.0.0.1:${target.port}`];
  const near = runPiped(t, command, {});
  const link = localSocket(t, { path });
  near.child.stdout.pipe(link).pipe(near.child.stdin);
  await far.waitForLine(OFFERS);
  await once(localSocket(t, { host: '127.0.0.1', port }), 'data');
  link.unpipe(near.child.stdin);
  near.child.stdin.end();
  t.is((await failures[0])?.code, 'ECONNRESET');
  const { code, stderr } = await near.ended;
  t.is(code, 0);
  t.regex(stderr, /session on stdio: ended: stdio: was closed by the peer \(channel-ended\)/);
});
