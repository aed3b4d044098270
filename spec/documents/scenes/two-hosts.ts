/** Two machines on a network, simulated by one: 192.0.2.1, which is `host1`, and `host2`. */
import type { Scene } from '../runner/scene.js';
import { isUp } from '../runner/stage.js';
import { addQemuUser, nameHosts, startSshServer, startWebServer } from './parts.js';

/** A web server on port 8080, an ssh server, and the key /etc/vproxy/pair.key. Copies to `host2:` go to another folder. */
export const twoHosts: Scene = {
  needs: ['curl', 'ip', 'openssl', 'socat', 'sshd'],
  async prepare(stage) {
    await nameHosts(stage, 'host1', 'host2');
    await addQemuUser(stage);
    await Promise.all([startSshServer(stage), startWebServer(stage, '127.0.0.1:8080')]);
    await stage.run(`
      openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=host1 -keyout host1-key.pem -out host1.pem 2> openssl.log
      cp host1.pem ca.pem
      ip address add 192.0.2.1/32 dev lo
      vproxy genkey /etc/vproxy/pair.key
      mkdir -p /srv/host2 && chmod 700 /srv/host2
      sed 's|^root:\\(.*\\):/tmp/home:|host2:\\1:/srv/host2:|' /etc/passwd | grep ^host2: >> /etc/passwd
      printf 'Host host2\\n  User host2\\n' > ~/.ssh/config`);
  },
  isReady: isUp,
  async check(stage) {
    // Follow the path to the web server, if the document has made one.
    await stage.run(
      'test ! -S /run/web.sock || curl -sS --retry 5 --retry-all-errors --unix-socket /run/web.sock http://web/ | grep -q hello',
    );
  },
};
