/** The path and the port of a channel: left behind by a killed process, not there yet, or in use by another process. */

import { existsSync, statSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { localServer } from '../helpers/proxies.js';
import { openPty } from '../helpers/terminals.js';
import { eventually } from '../helpers/time.js';
import { ESTABLISHED, spawnVproxy } from '../helpers/vproxy-process.js';

test('a path is found when it appears, kept from a second process, and replaced after a killed one', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const listen = () => spawnVproxy(t, ['-c', `unix-listen:${path}`]);
  const guest = spawnVproxy(t, ['-c', `unix-connect:${path}`]);
  await guest.waitForLine(/channel\.sock is missing \(ENOENT\); retrying/);
  const first = listen();
  await guest.waitForLine(ESTABLISHED);
  t.is(guest.lines.length, 2, guest.lines.join('\n'));

  t.is((await listen().exited).code, 69);
  t.true(existsSync(path));
  t.false(first.lines.some((line) => /ended/.test(line)));

  const from = guest.lines.length;
  first.kill('SIGKILL');
  await first.exited;
  t.true(existsSync(path));
  const second = listen();
  await guest.waitForLine(ESTABLISHED, { from });
  t.is((await second.stop()).code, 0);
  t.false(existsSync(path));
});

test('a second process on a port waits with one line, and gets it whenever the first one has exited', async (t) => {
  const path = join(temporaryFolder(t), 'host.sock');
  const port = await exclusivePort(t);
  // Like QEMU between its socket and the port.
  await localServer(
    t,
    (socket: net.Socket) => {
      socket.pipe(port.input);
      port.output.pipe(socket);
    },
    { path },
  );
  const host = spawnVproxy(t, ['-c', `unix-connect:${path}`]);
  const start = () => spawnVproxy(t, ['-c', `virtserial-open:${port.path}`, '--no-storage'], { env: port.env });
  let first = start();
  await Promise.all([host.waitForLine(ESTABLISHED), first.waitForLine(ESTABLISHED)]);
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    const refused = port.refusedCount();
    const second = start();
    await second.waitForLine(/another process has it open \(EBUSY\); retrying/);
    await eventually(() => port.refusedCount() >= refused + 4, { what: 'more attempts' });
    const from = host.lines.length;
    first.kill(signal);
    await second.waitForLine(ESTABLISHED);
    await host.waitForLine(ESTABLISHED, { from });
    t.is(second.lines.filter((line) => line.includes('EBUSY')).length, 1, second.lines.join('\n'));
    first = second;
  }
  t.is((await first.stop()).code, 0);
});

/** A file names the process that has the port: like a kernel lock, it ends with its process. */
const PRELOAD = `
  import fs from 'node:fs';
  import { syncBuiltinESMExports } from 'node:module';
  const { EXCLUSIVE_PORT: port, EXCLUSIVE_PORT_LOCK: lock, EXCLUSIVE_PORT_REFUSED: refused } = process.env;
  const { openSync, closeSync, readFileSync, writeFileSync } = fs;
  const isTaken = () => {
    try {
      const pid = Number(readFileSync(lock, 'utf8'));
      return pid !== 0 && pid !== process.pid && process.kill(pid, 0);
    } catch {
      return false;
    }
  };
  fs.openSync = (path, ...rest) => {
    if (path !== port) return openSync(path, ...rest);
    if (isTaken()) {
      fs.appendFileSync(refused, '.');
      throw Object.assign(new Error("EBUSY: resource busy or locked, open '" + path + "'"), { code: 'EBUSY' });
    }
    writeFileSync(lock, String(process.pid));
    return openSync(path, ...rest);
  };
  syncBuiltinESMExports();
`;

/** Creates a port, removed at the end of the test, with the environment in which a process finds it in use. */
async function exclusivePort(t: ExecutionContext) {
  const pty = await openPty(t);
  const folder = temporaryFolder(t);
  const refused = join(folder, 'refused');
  return {
    ...pty,
    /** How often it was found in use. */
    refusedCount: () => statSync(refused, { throwIfNoEntry: false })?.size ?? 0,
    env: {
      NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(PRELOAD)}`,
      EXCLUSIVE_PORT: pty.path,
      EXCLUSIVE_PORT_LOCK: join(folder, 'lock'),
      EXCLUSIVE_PORT_REFUSED: refused,
    },
  };
}
