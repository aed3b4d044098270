/** `vproxy -c CHANNEL …`: the command that runs a proxy. */
import { REPLACED } from '../../lib/settings/setting.js';
import type { Command } from '../command/command.js';
import { exitDespiteHang } from '../exit.js';
import { isRunByEnvironment, RUN_OPTIONS, RUN_VARIABLES, takeRunVariables } from '../run/options.js';

const FOREGROUND = 'vproxy runs in the foreground; append & or make it a service of systemd';

/** The command without a name. */
export const run: Command = {
  usage: '-c CHANNEL [-o FORWARD]… [-i FORWARD]… [options]',
  about: 'Carries forwards and storage calls over channels until it is stopped.',
  examples: [
    ['vproxy -c virtserial-open:org.vproxy.0 -i ssh:127.0.0.1:22', 'In the VM: offer its ssh server'],
    ['vproxy -c unix-connect:/run/vm1.sock -o ssh:127.0.0.1:9022', 'On the host: listen for it on port 9022'],
    ['vproxy -c vm1=libvirt:vm1 -c vm2=libvirt:vm2 -o vm1/ssh:9022 -o vm2/ssh:9023', 'Two VMs in one process'],
    ['vproxy --config /etc/vproxy/host1.toml', 'The same from a file'],
  ],
  isLocal: true,
  variables: RUN_VARIABLES,
  isImplied: isRunByEnvironment,
  options: { ...RUN_OPTIONS, version: { short: 'V', describe: 'Show versions' } },
  // Of ssh, docker and daemons.
  foreign: {
    '-L': '-o SERVICE:[ADDR:]PORT listens here, and -i SERVICE:TARGET at the peer offers the service',
    '-R': '-i SERVICE:TARGET offers a service here, and -o SERVICE:[ADDR:]PORT at the peer listens for it',
    '-D': '-o SERVICE:[ADDR:]PORT listens here, and -i SERVICE:egress:NAME at the peer is a proxy',
    '-p': '-o SERVICE:[ADDR:]PORT listens here for a service of the peer',
    '-d': FOREGROUND,
    '--daemon': FOREGROUND,
    '--log-level': '-v and -vv log more, -q less',
    ...REPLACED,
  },
  async run(args) {
    // The proxy is most of the program: --help must not wait for it.
    const [{ parseRunFlags }, { runFlags }] = await Promise.all([
      import('../run/run-options.js'),
      import('../run/run-proxy.js'),
    ]);
    const variables = takeRunVariables(process.env);
    await exitDespiteHang(
      await runFlags(
        parseRunFlags((name) => args.texts(name), variables),
        variables,
      ),
    );
  },
};
