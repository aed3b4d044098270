/** A first visit: two processes without a forward, and everything else done while they run. */
import { once } from 'node:events';
import { join } from 'node:path';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { processPair } from '../helpers/process-pair.js';
import { echo, localServer, localSocket, readToEnd } from '../helpers/proxies.js';
import { openTerminal } from '../helpers/terminals.js';
import { serialTestWith } from '../helpers/test-with.js';
import { runPiped, runVproxy, TAKING_CONTROL } from '../helpers/vproxy-process.js';

const VPROXY = `${process.execPath} ${join(PROJECT_ROOT, 'dist/program/vproxy.cjs')}`;

serialTestWith('tmux')(
  'forwards are added on both sides, used, watched and drained, and the process stops',
  async (t) => {
    const folder = temporaryFolder(t);
    const [hostSocket, guestSocket] = [join(folder, 'host.sock'), join(folder, 'guest.sock')];
    const waiting = runPiped(t, ['wait', '--service', 'echo', '--socket', hostSocket], {});
    const { host, guest } = await processPair(t, {
      host: ['--name', 'visit-host', '--control', hostSocket],
      guest: ['--name', 'visit-guest', '--control', guestSocket],
    });
    // It may come later than the session.
    await Promise.all([host, guest].map((side) => side.waitForLine(TAKING_CONTROL)));
    const run = async (...words: readonly string[]): Promise<string> => {
      const { code, stdout, stderr } = await runVproxy([...words, '--socket', hostSocket]);
      t.deepEqual([code, stderr], [0, ''], words.join(' '));
      return stdout;
    };
    const events = runPiped(t, ['events', '--json', '--socket', hostSocket], {});

    const target = await localServer(t, echo);
    const offered = await runVproxy(['forward', 'add', '-i', `echo:127.0.0.1:${target.port}`, '--socket', guestSocket]);
    t.is(offered.stdout, `f1: offers echo at 127.0.0.1:${target.port} to default\n`);
    t.deepEqual(await waiting.ended, { code: 0, stderr: '' });
    const added = await run('forward', 'add', '-o', 'echo:127.0.0.1:0');
    const port = Number(/127\.0\.0\.1:(\d+)/.exec(added)?.[1]);

    const socket = localSocket(t, { host: '127.0.0.1', port });
    socket.write('hello ');
    await once(socket, 'readable');
    t.regex(await run('streams'), /\ndefault\/\d+ +echo +outgoing /);
    const top = await openTerminal(t, `${VPROXY} top --interval 0.2`, { VPROXY_SOCKET: hostSocket });
    const topShows = /^vproxy visit-host .*[^]*\ndefault +established .*visit-guest[^]*\ndefault\/\d+ +echo +outgoing/;
    await top.shows(topShows);

    const command = `${VPROXY} forward remove echo; echo "status $?"; cat`;
    const removal = await openTerminal(t, command, { VPROXY_SOCKET: hostSocket });
    await removal.shows(/vproxy: waiting for 1 stream of f1/);
    t.regex(await run('forwards'), /\nf1 .* draining +1 +1\n/);
    socket.end('world');
    t.is((await readToEnd(socket)).toString(), 'hello world');
    await removal.shows(/status 0/);
    t.false((await removal.screen()).join('\n').includes('waiting'));
    t.is(await run('forwards'), 'There are no forwards.\n');

    await run('drain', '--timeout', '5');
    t.deepEqual(await host.exited, { code: 0, signal: null });
    const told = (await events.output)
      .toString()
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { event: string }).event);
    t.deepEqual(
      ['session-established', 'listening', 'stream-opened', 'stream-closed'].filter((event) => !told.includes(event)),
      [],
    );
  },
);
