/** Common parts of scenes: an ssh server with a key for it, a web server, and processes that simulate guests. */
import { projectText } from '../../helpers/files.js';
import type { Stage } from '../runner/stage.js';

/** The configuration of an ssh server, without its keys. */
const SSHD = `
AuthorizedKeysFile /tmp/home/.ssh/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
SetEnv PATH=/usr/sbin:/usr/bin:/sbin:/bin
`;

/** Adds names of this machine to /etc/hosts, as 127.0.0.1. */
export async function nameHosts(stage: Stage, ...names: string[]): Promise<void> {
  await stage.run(`echo '127.0.0.1 ${names.join(' ')}' >> /etc/hosts`);
}

/** Makes sure that the user and the group of libvirt's QEMU on Debian exist. */
export async function addQemuUser(stage: Stage): Promise<void> {
  await stage.run(`
    getent group kvm > /dev/null || echo kvm:x:106: >> /etc/group
    getent passwd libvirt-qemu > /dev/null || echo libvirt-qemu:x:110:106::/:/bin/false >> /etc/passwd`);
}

/** Configures ssh for names such as `vproxy/vm1`, as the packages do. */
export async function configureSsh(stage: Stage): Promise<void> {
  await stage.run('rm -f /etc/ssh/ssh_config.d/*');
  stage.write('/etc/ssh/ssh_config.d/30-vproxy.conf', projectText('packaging/ssh_config.d/30-vproxy.conf'));
}

/** Starts an ssh server on port 22 of every address; this user gets a key for it, and accepts it under any name. */
export async function startSshServer(stage: Stage): Promise<void> {
  await stage.run(`
    mkdir -p ~/.ssh /etc/ssh && chmod 700 ~ ~/.ssh
    ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519
    ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/server
    cp ~/.ssh/id_ed25519.pub ~/.ssh/authorized_keys
    echo "* $(cat ~/.ssh/server.pub)" > ~/.ssh/known_hosts`);
  stage.write('/etc/ssh/sshd_config', `HostKey ${stage.home}/.ssh/server\n${SSHD}Subsystem sftp internal-sftp\n`);
  await stage.start('exec /usr/sbin/sshd -D -e', (output) => output.includes('Server listening on'));
}

/** Starts a web server on an address of this machine. */
export async function startWebServer(stage: Stage, address: string): Promise<void> {
  stage.write('/srv/www/index.html', 'hello\n');
  const isThere = () => stage.succeeds(`: < /dev/tcp/${address.replace(':', '/')}`);
  await stage.start(`exec busybox httpd -f -v -p ${address} -h /srv/www`, isThere);
}

/**
 * Starts a process that simulates the guest of this name: it listens on /run/NAME.sock, as QEMU does, allows commands, copies
 * and info, and offers this machine's ssh server, the web server at 127.0.0.2:8080, and `backup`, which writes /srv/NAME.backup.
 */
export async function startGuest(stage: Stage, name: string, more = ''): Promise<void> {
  const path = `/run/${name}.sock`;
  const services = `-i ssh:127.0.0.1:22 -i web:127.0.0.2:8080 -i 'backup:exec:cat > /srv/${name}.backup'`;
  const permissions = '--allow-exec --allow-copy --info';
  await stage.startPeer(`-c unix-listen:${path} --name ${name} ${permissions} ${services} ${more}`, (output) =>
    output.includes(path),
  );
}
