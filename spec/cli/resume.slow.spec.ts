/**
 * Streams, commands and copies that survive the loss of their channel's link, between real processes (docs/channel-options.md,
 * "Resuming"), with vproxy or vproxy-guest at the far side.
 */
import { randomBytes, randomInt } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { AS_GUEST, buildGuest } from '../guest-program/build.js';
import { Exchanges } from '../helpers/exchanges.js';
import { temporaryFolder } from '../helpers/files.js';
import { ONE_SESSION, processPair } from '../helpers/process-pair.js';
import { failureOf, localServer, localSocket } from '../helpers/proxies.js';
import { CuttingRelay } from '../helpers/relays.js';
import { serialTestWith } from '../helpers/test-with.js';
import { upgrade } from '../helpers/upgrades.js';
import { runPiped, type SpawnOptions, spawnVproxy } from '../helpers/vproxy-process.js';

const RESUMED = /\bresumed after \d+ ms\b/;
const OFFERS = /\bthe peer offers: /;

/** How often the channel is cut under streams and a command. */
const CUTS = 50;

const PROGRAMS: readonly [name: string, declare: typeof test.serial.skip, options: SpawnOptions][] = [
  ['vproxy', test.serial, {}],
  ['vproxy-guest', serialTestWith('go'), AS_GUEST],
];

buildGuest();

/** Two processes with a session through a relay; the guest allows commands. */
async function setUp(t: ExecutionContext, guestOptions: SpawnOptions, ...allowed: string[]) {
  const { relay, near, far } = await CuttingRelay.between(t);
  const exchanges = await Exchanges.start(t);
  const { host, guest, env, sessions, folder, sockets } = await processPair(t, {
    ...{ control: 'host', hostPath: `${far},resume=60s`, guestPath: `${near},resume=60s`, guestOptions },
    host: ['-v', '-o', `x:${exchanges.localPath}`],
    guest: ['-v', '--allow-exec', '-i', `x:${exchanges.targetPath}`, ...allowed],
  });
  // Otherwise a stream shows that the far side has the secret.
  const tells = guestOptions.program === undefined ? [host, guest] : [host];
  await Promise.all(tells.map((side) => side.waitForLine(OFFERS)));
  const start = (...words: readonly string[]) => runPiped(t, words, env);
  /** Cuts the channel repeatedly, each time after a random number of bytes, both ways together, up to a bound. */
  const cutAgainAndAgain = (maxBytes: number): void => {
    relay.onCut = () => {
      relay.leftBytes = randomInt(1, maxBytes);
      guest.kill('SIGHUP');
    };
    relay.leftBytes = randomInt(1, maxBytes);
  };
  const countResumed = (): number => guest.lines.filter((line) => RESUMED.test(line)).length;
  const checkOneSession = (): number => {
    t.deepEqual(sessions(), ONE_SESSION);
    return countResumed();
  };
  return { folder, relay, host, guest, exchanges, sockets, start, cutAgainAndAgain, countResumed, checkOneSession };
}

for (const [name, declare, options] of PROGRAMS) {
  declare(`${name}: a shell continues where it was`, async (t) => {
    const { relay, guest, host, start, checkOneSession } = await setUp(t, options);
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

  declare(
    `${name}: streams and a command lose nothing, however often the channel is cut, and in an upgrade of the host`,
    async (t) => {
      t.timeout(120_000);
      const { folder, relay, guest, start, exchanges, sockets, countResumed, cutAgainAndAgain, checkOneSession } =
        await setUp(t, options);
      const source = randomBytes(5_000_000);
      const from = join(folder, 'from');
      writeFileSync(from, source);
      await exchanges.open(4);
      cutAgainAndAgain(1_000_000);
      const { output, ended } = start('exec', '-n', 'cat', from);
      const [bytes, { code, stderr }] = await Promise.all([output, ended]);
      t.deepEqual({ code, stderr }, { code: 0, stderr: '' });
      t.true(bytes.equals(source));
      // A process that has a command in hand waits for its end.
      await upgrade(t, sockets[0]);
      while (countResumed() < CUTS) await exchanges.received(100_000);
      relay.onCut = () => undefined;
      relay.leftBytes = Number.POSITIVE_INFINITY;
      guest.kill('SIGHUP');
      t.deepEqual(await exchanges.finish(), []);
      t.true(checkOneSession() >= CUTS);
    },
  );
}

test.serial('the output of a command, and a copy, are complete, however often the channel is cut', async (t) => {
  const { folder, start, cutAgainAndAgain, checkOneSession } = await setUp(t, {}, '--allow-copy');
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
