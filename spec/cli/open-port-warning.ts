/** The warning that a loopback port is open to every user who can log in. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { warnOfOpenPort } from '../../cli/run/running-process.js';
import type { LogEvent } from '../../lib/events.js';
import { hasOtherUsers } from '../../lib/system/accounts.js';
import { temporaryFolder } from '../helpers/files.js';
import { TestProxy } from '../helpers/proxies.js';

const SYSTEM = 'root:x:0:0::/root:/bin/bash\nwww:x:33:33::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n';
const OWN = 'me:x:1000:1000::/home/me:/bin/bash\n';
const LOCKED = 'old:x:1001:1001::/home/old:/usr/sbin/nologin\n';
const OTHER = 'you:x:1002:1002::/home/you:/bin/zsh\n';

function passwd(t: ExecutionContext, text: string): string {
  const path = join(temporaryFolder(t), 'passwd');
  writeFileSync(path, text);
  return path;
}

test('other users are those with a shell, except the user of the process', async (t) => {
  t.false(await hasOtherUsers(1000, passwd(t, SYSTEM + OWN + LOCKED)));
  t.true(await hasOtherUsers(0, passwd(t, SYSTEM + OWN)));
  t.true(await hasOtherUsers(1000, passwd(t, SYSTEM + OWN + OTHER)));
  t.false(await hasOtherUsers(1000, '/nonexistent/passwd'));
});

async function warnings(t: ExecutionContext, outgoing: readonly string[], accounts: string): Promise<string[]> {
  const { proxy } = new TestProxy(t, 'unix-connect:/nonexistent/channel.sock', { outgoing });
  const events: LogEvent[] = [];
  const passwdFile = passwd(t, accounts);
  warnOfOpenPort(proxy, { userId: 1000, passwdFile }, (event) => events.push(event));
  await proxy.start();
  // The file is being read; two later readings end after that.
  for (let reading = 0; reading < 2; reading += 1) await hasOtherUsers(1000, passwdFile);
  return events.map(({ level, event, message }) => `${level} ${event} ${message.replace(/:\d+;/, ':PORT;')}`);
}

test('it is logged once, for the first loopback port, if there are other users', async (t) => {
  const all = SYSTEM + OWN + OTHER;
  t.deepEqual(await warnings(t, [`web:${temporaryFolder(t)}/web`, 'ssh:0', 'x:0'], all), [
    'warn open-port every user of this machine can connect to 127.0.0.1:PORT; to allow only yours, use a unix socket (-o ssh:/path)',
  ]);
  t.is((await warnings(t, ['ssh:[::1]:0'], all)).length, 1);
});

test('it is not logged without other users, for unix sockets, or if the port is open to other machines anyway', async (t) => {
  t.deepEqual(await warnings(t, ['ssh:0'], SYSTEM + OWN), []);
  t.deepEqual(await warnings(t, [`web:${temporaryFolder(t)}/web`, 'ssh:0.0.0.0:0'], SYSTEM + OWN + OTHER), []);
});
