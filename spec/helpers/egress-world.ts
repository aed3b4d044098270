/**
 * A guest without a network, its host, and an internet made by the test. The host's network has the origins of
 * `egress-origins.ts` at public addresses known only to its `lo`, and names for them; the guest's has only `lo`. The channel
 * between the two is a unix socket.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestFn } from 'ava';
import { makeCertificate } from './certificates.js';
import { PROJECT_ROOT } from './files.js';
import { OwnNetwork } from './namespaces.js';
import { hasNeed } from './needs.js';
import { ESTABLISHED, listeningFor, VproxyProcess } from './vproxy-process.js';

/** The made internet. Its addresses are public, so that the rules of an egress let names lead there. */
export const ROUTES = ['203.0.114.0/24', '2001:db9::/64'] as const;

/** The addresses of the origins; port 80 of both is also allowed by address. */
export const ADDRESSES = ['203.0.114.7', '2001:db9::7'] as const;

export const ORIGINS = {
  deb: 'deb.example.test',
  git: 'git.example.test',
  pypi: 'pypi.example.test',
  files: 'files.example.test',
} as const;

/** Names that lead there, too, but that no entry allows. */
export const FORBIDDEN = 'forbidden.example.test';

/** An allowed name that leads to the host's own loopback. */
export const TRAP = 'trap.example.test';

/** An allowed name that does not exist. */
export const UNKNOWN = 'unknown.example.test';

/** An allowed name with nothing listening on port 81. */
export const CLOSED_PORT = 81;

const NAMES = Object.values(ORIGINS);

/** Where the guest's programs find the proxy. The network belongs to the test, so the port is free. */
export const PROXY_PORT = 3128;
export const PROXY = `http://127.0.0.1:${PROXY_PORT}`;

/** The environment of programs that know nothing of a proxy but this. */
export const PROXY_ENV = { http_proxy: PROXY, https_proxy: PROXY, all_proxy: `socks5h://127.0.0.1:${PROXY_PORT}` };

/** The command that starts the origins of a folder, which has `origin.pem` and `.key`; they print `ready`. */
export const originsProgram = (folder: string): string[] => [
  process.execPath,
  join(PROJECT_ROOT, 'dist/spec/helpers/egress-origins.js'),
  folder,
];

/** The host's network with its origins: the outside of a guest. */
class EgressOutside {
  /** The folder of the origins, with `origin-ca.pem`, the authority that clients must trust. */
  readonly folder: string;
  readonly network: OwnNetwork;
  readonly origins: VproxyProcess;

  private constructor(folder: string, network: OwnNetwork, origins: VproxyProcess) {
    this.folder = folder;
    this.network = network;
    this.origins = origins;
  }

  /** `prepare` creates the content of the origins, in their folder. */
  static async start(prepare: (folder: string) => void = () => undefined): Promise<EgressOutside> {
    const folder = mkdtempSync(join(tmpdir(), 'vproxy-egress-'));
    makeCertificate(folder, 'origin', NAMES);
    prepare(folder);
    const hostsFile = join(folder, 'hosts');
    const local = `127.0.0.1 localhost ${TRAP}\n::1 localhost\n`;
    writeFileSync(hostsFile, `${local}${originHosts([...NAMES, FORBIDDEN])}`);
    const network = await OwnNetwork.start({ routes: ROUTES, hostsFile });
    const origins = new VproxyProcess([], { program: originsProgram(folder), launcher: network.launcher });
    const outside = new EgressOutside(folder, network, origins);
    await orStop(outside, origins.waitForLine(/^ready$/));
    return outside;
  }

  get authority(): string {
    return join(this.folder, 'origin-ca.pem');
  }

  /** The requests to the origins for a name: `#CONNECTION SCHEME METHOD PATH`. */
  requests(host: string): readonly string[] {
    return this.origins.lines.filter((line) => line.split(' ')[3] === host);
  }

  async stop(): Promise<void> {
    await this.origins.stop();
    await this.network.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Lines of `/etc/hosts` by which these names lead to the origins. */
export const originHosts = (names: readonly string[]): string =>
  ADDRESSES.flatMap((address) => names.map((name) => `${address} ${name}\n`)).join('');

/** The host's configuration file: the `allow` list of the egress, and the channel with it and its resolver. */
const hostConfiguration = (channel: string): string => `
[egress.internet]
allow = [
  "${ORIGINS.deb}:80,443",
  "${ORIGINS.git}:443",
  "${ORIGINS.pypi}:443",
  "${ORIGINS.files}:7,80,${CLOSED_PORT},443",
  "${TRAP}:80",
  "${UNKNOWN}:443",
  "${ADDRESSES[0]}:80",
  "[${ADDRESSES[1]}]:80",
]

[channels.vm1]
address = "${channel}"
incoming = ["internet:egress:", "dns:resolver:internet"]
`;

async function orStop<T>(started: { stop(): Promise<void> }, ready: Promise<T>): Promise<T> {
  try {
    return await ready;
  } catch (error) {
    await started.stop();
    throw error;
  }
}

/** The guest's side. */
interface GuestOptions {
  readonly forwards: readonly string[];
  /** Default: vproxy. */
  readonly program?: readonly string[];
  /** The text of its `/etc/resolv.conf`. Default: empty. */
  readonly resolvConf?: string;
  /** Further arguments of the host's vproxy. */
  readonly hostArgs?: readonly string[];
}

const WITH_PROXY: GuestOptions = { forwards: ['-o', `internet:127.0.0.1:${PROXY_PORT}`] };

/** Everything: outside, the host's vproxy in it, and the guest's in its own network. */
async function startWorld(prepare?: (folder: string) => void, guestOptions = WITH_PROXY) {
  const outside = await EgressOutside.start(prepare);
  const { folder } = outside;
  const channel = join(folder, 'channel.sock');
  const file = join(folder, 'host.toml');
  writeFileSync(file, hostConfiguration(`unix-listen:${channel}`));
  const { forwards, program, resolvConf = '' } = guestOptions;
  const resolvFile = join(folder, 'guest-resolv.conf');
  writeFileSync(resolvFile, resolvConf);
  const inside = await OwnNetwork.start({ resolvConf: resolvFile });
  const hostArgs = ['--config', file, '--control', join(folder, 'host.sock'), ...(guestOptions.hostArgs ?? [])];
  const host = new VproxyProcess(hostArgs, { launcher: outside.network.launcher });
  const guestArgs = ['-c', `unix-connect:${channel}`, ...forwards];
  const as = program === undefined ? {} : { program, hasDefaultControl: true };
  const guest = new VproxyProcess(guestArgs, { launcher: inside.launcher, ...as });
  const world = {
    ...{ outside, host, guest, inside },
    /** A new empty folder, removed with the world. */
    makeFolder(name: string): string {
      const path = join(folder, 'work', name);
      mkdirSync(path, { recursive: true });
      return path;
    },
    /** The logs of both sides, for a failed test. */
    logs: () => `vproxy on the host:\n${host.lines.join('\n')}\n\nvproxy in the guest:\n${guest.lines.join('\n')}`,
    async stop(): Promise<void> {
      await Promise.all([guest.stop(), host.stop()]);
      await inside.stop();
      await outside.stop();
    },
  };
  await orStop(world, Promise.all([host.waitForLine(ESTABLISHED), guest.waitForLine(listeningFor('internet'))]));
  return world;
}

type EgressWorld = Awaited<ReturnType<typeof startWorld>>;

export const WORLD_NEEDS = ['curl', 'git', 'gpg', 'ip', 'openssl', 'pip', 'socat'] as const;

/** Starts a world before the tests of a file, stops it after them, shows its logs if one fails, and returns a function for it. */
export function useEgressWorld(
  test: TestFn,
  prepare?: (folder: string) => void,
  guestOptions?: GuestOptions,
): () => EgressWorld {
  let world: EgressWorld | undefined;
  test.serial.before('a guest without a network, its host, and origins are there', async (t) => {
    if (!WORLD_NEEDS.every(hasNeed)) return;
    t.timeout(60_000);
    world = await startWorld(prepare, guestOptions);
  });
  test.afterEach.always('the logs are shown', (t) => {
    if (!t.passed && world !== undefined) t.log(world.logs());
  });
  test.serial.after.always('all of it is stopped', () => world?.stop());
  return () => {
    if (world === undefined) throw new Error('there is no world');
    return world;
  };
}
