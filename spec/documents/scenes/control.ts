/** docs/control.md: a vproxy named `host1`, whose peer offers an echo; and streams, one of which an example resets. */
import { connect } from 'node:net';
import type { Scene } from '../runner/scene.js';
import { hasSession } from '../runner/stage.js';

const CHANNEL = '/run/vm1.sock';

export const control: Scene = {
  needs: ['curl', 'socat'],
  async prepare(stage) {
    await stage.start('exec socat TCP-LISTEN:7,fork,bind=127.0.0.1 EXEC:cat', () => true);
    await stage.startPeer(
      `-c unix-listen:${CHANNEL} --info --allow-exec --allow-copy -i echo:127.0.0.1:7 -o back:127.0.0.1:7008`,
      (output) => output.includes(CHANNEL),
    );
    stage.write(
      '/etc/vproxy/host1.toml',
      `[egress.internet]\nallow = ["deb.debian.org:80,443", "10.0.0.0/8:5432"]\n[channels.default]\naddress = "unix-connect:${CHANNEL}"\n`,
    );
    // The first forward, which an example removes, must come before that of the echo.
    await stage.start(
      'exec vproxy --name host1 --config /etc/vproxy/host1.toml -o unused:127.0.0.1:0 -o echo:127.0.0.1:7007 -i back:127.0.0.1:7',
      hasSession,
    );
    // The first streams of the two sides are 1 and 2, in either order. An example resets 2; a draining process waits
    // for 1.
    await echoes(7007);
    await echoes(7008);
  },
};

/** Opens a connection that stays open after an echo. */
function echoes(port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', reject).once('data', () => resolve());
    socket.write('hello');
  });
}
