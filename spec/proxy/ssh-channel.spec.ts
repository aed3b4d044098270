/** `ssh://host/path` over a real sshd: a unix socket on another machine as the channel. */
import { join } from 'node:path';
import { temporaryFolder } from '../helpers/files.js';
import { echo, localServer, localSocket, readToEnd, TestProxy } from '../helpers/proxies.js';
import { sshSearchPath } from '../helpers/ssh-server.js';
import { testWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { ENDED, ESTABLISHED, spawnVproxy } from '../helpers/vproxy-process.js';

const testWithServer = testWith('sshd', 'socat');

testWithServer(
  'a session over ssh carries bytes, ends with ssh, and comes again, whatever the path looks like',
  async (t) => {
    // As long as nothing in it is a control character or a backslash, which are refused.
    const path = join(temporaryFolder(t), `a b,c:d!!e'f"g(h[i{j)k]l}m$n;o&p*q?r~s%tü#u|v<w>x`);
    const target = await localServer(t, echo);
    const far = new TestProxy(t, `unix-listen:${path.replaceAll(',', ',,')}`, { incoming: [`echo:${target.port}`] });
    await far.start();
    const uri = `ssh://host2${path.split('/').map(encodeURIComponent).join('/')}?frame=8192`;
    const near = spawnVproxy(t, ['-c', `vm1=${uri}`, '-o', 'echo:127.0.0.1:0'], { env: { PATH: sshSearchPath(t) } });
    await near.waitForLine(ESTABLISHED);
    const exchange = async () => {
      const socket = localSocket(t, { host: '127.0.0.1', port: await near.listeningPort('echo') });
      const sent = Buffer.from(Array.from({ length: 600_000 }, (_, index) => (index * 7 + (index >>> 8)) % 256));
      socket.end(sent);
      t.true((await readToEnd(socket)).equals(sent));
    };
    await exchange();

    // The far end stops: ssh ends, and is started again.
    const from = near.lines.length;
    await far.proxy.stop();
    await near.waitForLine(ENDED, { from });
    const again = new TestProxy(t, `unix-listen:${path.replaceAll(',', ',,')}`, { incoming: [`echo:${target.port}`] });
    await again.start();
    await near.waitForLine(ESTABLISHED, { from });
    await exchange();

    // This end stops: nothing stays at the far end that would hold the socket.
    t.is((await near.stop()).code, 0);
    await again.event('session-ended');
    await eventually(() => again.proxy.channel('default').state === 'waiting');
  },
);

testWithServer('a socket that is not there yet is tried again', async (t) => {
  const path = join(temporaryFolder(t), 'vm1.sock');
  const near = spawnVproxy(t, ['-c', `ssh://host2${path}`], { env: { PATH: sshSearchPath(t) } });
  await near.waitForLine(/went away: it ended with status 1; trying again/);
  const far = new TestProxy(t, `unix-listen:${path}`);
  await far.start();
  await near.waitForLine(ESTABLISHED);
  t.is((await near.stop()).code, 0);
});
