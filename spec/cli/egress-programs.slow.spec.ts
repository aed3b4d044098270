/** Programs in a guest without a network: unmodified apt, curl, git, pip and socat, through the egress of its host. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import {
  type MadeRepository,
  makeAptMachine,
  makeGitRepository,
  makeIndex,
  makeRepository,
} from '../helpers/egress-sites.js';
import {
  ADDRESSES,
  CLOSED_PORT,
  FORBIDDEN,
  ORIGINS,
  PROXY,
  PROXY_ENV,
  PROXY_PORT,
  TRAP,
  UNKNOWN,
  useEgressWorld,
  WORLD_NEEDS,
} from '../helpers/egress-world.js';
import { sha256 } from '../helpers/files.js';
import type { NetworkRunOptions } from '../helpers/namespaces.js';
import { serialTestWith } from '../helpers/test-with.js';
import { type RunResult } from '../helpers/vproxy-process.js';
import { patternPieces } from '../vm/rig/pattern.js';

const withWorld = serialTestWith(...WORLD_NEEDS);

const WHEEL = 'made_wheel';

let repository: MadeRepository | undefined;
let wheel = { file: '', digest: '' };
let commit = '';

const world = useEgressWorld(test, (folder) => {
  repository = makeRepository(folder, ORIGINS.deb);
  wheel = makeIndex(folder, ORIGINS.pypi, WHEEL);
  commit = makeGitRepository(folder, 'made');
});

/** Runs a command in the guest's network until it exits. */
const run = (command: readonly string[], options?: NetworkRunOptions) => world().inside.run(command, options);

const APT_MS = 120_000;
const MIB = 2 ** 20;

/** The arguments of curl for each of the three ways in, besides the URL. */
const WAYS = {
  CONNECT: (scheme: string) => (scheme === 'http' ? ['--proxytunnel', '--proxy', PROXY] : ['--proxy', PROXY]),
  'absolute form': () => ['--proxy', PROXY],
  'SOCKS 5': () => ['--proxy', PROXY_ENV.all_proxy],
} as const;

/** Each way in, with each of its schemes. */
const TRANSFERS = [
  ['CONNECT', 'https'],
  ['CONNECT', 'http'],
  ['absolute form', 'http'],
  ['SOCKS 5', 'https'],
  ['SOCKS 5', 'http'],
] as const;

/** A curl that prints only errors, and trusts the origins. */
const curl = (...words: readonly string[]) => ['curl', '-sS', '--cacert', world().outside.authority, ...words];

const succeeds = (t: ExecutionContext, { code, stdout, stderr }: RunResult): void => {
  t.is(code, 0, `${stdout}${stderr}`);
};

const patternOf = (bytes: number): Buffer => Buffer.concat([...patternPieces(bytes)]);

const digests = new Map<number, string>();
function patternDigest(bytes: number): string {
  const digest = digests.get(bytes) ?? sha256(patternOf(bytes));
  digests.set(bytes, digest);
  return digest;
}

const fileDigest = (path: string): string => sha256(readFileSync(path));

withWorld('the guest has no way out except the proxy, and no name resolution', async (t) => {
  const direct = await run(curl('--max-time', '10', `http://${ADDRESSES[0]}/`));
  t.is(direct.code, 7, direct.stderr);
  const named = await run(curl('--max-time', '10', `http://${ORIGINS.files}/`));
  t.is(named.code, 6, named.stderr);
});

// apt

const repositoryUrl = (scheme: string, host: string = ORIGINS.deb) => `${scheme}://${host}/debian`;

/** The settings of apt that the guest's administrator writes. */
const aptSettings = (): string[] => [
  `Acquire::http::Proxy "${PROXY}";`,
  `Acquire::https::Proxy "${PROXY}";`,
  `Acquire::https::CAInfo "${world().outside.authority}";`,
];

for (const scheme of ['http', 'https'] as const) {
  withWorld(`apt-get update and install get 20 packages of a signed repository over ${scheme}`, async (t) => {
    t.timeout(APT_MS);
    const { packages = new Map<string, string>(), all = '', keyFile = '' } = repository ?? {};
    const { root, env } = makeAptMachine(
      world().makeFolder(`apt-${scheme}`),
      repositoryUrl(scheme),
      aptSettings(),
      keyFile,
    );
    const before = world().outside.requests(ORIGINS.deb).length;
    const update = await run(['apt-get', 'update'], { env, timeoutMs: APT_MS });
    succeeds(t, update);
    t.notRegex(update.stdout + update.stderr, /^(?:Err|Ign|W|E):/m);
    succeeds(t, await run(['apt-get', 'install', '--yes', all], { env, timeoutMs: APT_MS }));
    for (const [name, digest] of packages) {
      t.is(fileDigest(join(root, `usr/share/${name}/data`)), digest, name);
    }
    t.is(readFileSync(join(root, 'var/lib/dpkg/status'), 'utf8').match(/^Status: install ok installed$/gm)?.length, 21);

    const requests = world().outside.requests(ORIGINS.deb).slice(before);
    t.true(requests.every((line) => line.split(' ')[1] === scheme));
    const files = new Set(requests.map((line) => line.split(' ')[4]).filter((path) => path?.endsWith('.deb')));
    t.is(files.size, packages.size + 1);
    // Keep-alive end to end: apt requests one package after the other on one connection.
    const connections = new Set(requests.map((line) => line.split(' ')[0]));
    t.true(connections.size <= 6, `${requests.length} requests took ${connections.size} connections`);
  });
}

withWorld('apt-get shows the reason of the host for a repository that is not allowed', async (t) => {
  const folder = world().makeFolder('apt-refused');
  const { env } = makeAptMachine(folder, repositoryUrl('http', FORBIDDEN), aptSettings(), repository?.keyFile);
  const { stdout, stderr } = await run(['apt-get', 'update'], { env });
  t.regex(stdout + stderr, /^Err:1 http:\/\/forbidden\.example\.test\/debian stable InRelease\n {2}403 /m);
});

// curl

for (const [way, scheme] of TRANSFERS) {
  const url = `${scheme}://${ORIGINS.files}`;

  withWorld(`curl downloads and uploads by ${way} over ${scheme}`, async (t) => {
    const folder = world().makeFolder(`curl-${way}-${scheme}`.replaceAll(' ', '-'));
    const [down, up] = [join(folder, 'down'), join(folder, 'up')];
    const bytes = 3 * MIB + 7;
    writeFileSync(up, patternOf(bytes));
    const words = WAYS[way](scheme);
    succeeds(t, await run(curl(...words, '-f', '-o', down, `${url}/-/pattern/${bytes}`)));
    t.is(fileDigest(down), patternDigest(bytes));
    const expected = `${patternDigest(bytes)} ${bytes}\n`;
    // With and without a length known in advance.
    for (const headers of [[], ['-H', 'Transfer-Encoding: chunked', '-H', 'Expect:']]) {
      const sent = await run(curl(...words, ...headers, '-T', up, `${url}/-/digest`));
      t.deepEqual(sent, { code: 0, stdout: expected, stderr: '' });
    }
  });
}

/** The refusal of a destination: the HTTP status, the SOCKS 5 code as curl shows it, and the line. */
const DENIED = { status: 403, socks: 2, line: (at: string) => `${at} is not allowed by egress "internet" on the host` };
const NOT_FOUND = { status: 502, socks: 4, line: () => `no address found for ${UNKNOWN}` };
const CLOSED = { status: 502, socks: 5, line: (at: string) => `${at} refused the connection` };

for (const [what, destination, { status, socks, line }] of [
  ['a name that no entry allows', `${FORBIDDEN}:443`, DENIED],
  ['a port that no entry allows', `${ORIGINS.git}:22`, DENIED],
  ['a name that leads to the loopback of the host', `${TRAP}:80`, DENIED],
  ['the loopback of the host', '127.0.0.1:80', DENIED],
  ['the metadata service of a cloud', '169.254.169.254:80', DENIED],
  ['an unknown name', `${UNKNOWN}:443`, NOT_FOUND],
  ['a port where nothing listens', `${ORIGINS.files}:${CLOSED_PORT}`, CLOSED],
] as const) {
  withWorld(`curl is refused ${what}, with one line that says why`, async (t) => {
    const url = `http://${destination}/`;
    const from = world().host.lines.length;

    const absolute = await run(curl('--proxy', PROXY, '-w', '%{stderr}%{http_code}', url));
    t.deepEqual({ ...absolute, stdout: '' }, { code: 0, stdout: '', stderr: String(status) });
    t.true(absolute.stdout.startsWith(`vproxy: ${line(destination)}`));
    t.is(absolute.stdout.includes('; on the host: vproxy egress '), status === 403);
    t.is((await run(curl('--proxy', PROXY, '-f', url))).code, 22);

    const tunnel = await run(curl('--proxytunnel', '--proxy', PROXY, url));
    t.deepEqual(tunnel, { code: 56, stdout: '', stderr: `curl: (56) CONNECT tunnel failed, response ${status}\n` });

    const throughSocks = await run(curl('--proxy', PROXY_ENV.all_proxy, url));
    t.is(throughSocks.code, 97);
    t.regex(throughSocks.stderr, new RegExp(`^curl: \\(97\\) .*\\(${socks}\\)\\n$`));

    const logged = line(destination).replaceAll('.', '\\.');
    await world().host.waitForLine(new RegExp(`warning: vm1: stream \\d+: ${logged}: `), { from });
  });
}

// git, pip and socat

withWorld('git clones over HTTPS, and fetches new commits', async (t) => {
  const folder = world().makeFolder('git');
  const env = { ...PROXY_ENV, GIT_SSL_CAINFO: world().outside.authority, GIT_TERMINAL_PROMPT: '0', HOME: folder };
  const clone = join(folder, 'made');
  succeeds(t, await run(['git', 'clone', '--quiet', `https://${ORIGINS.git}/git/made.git`, clone], { env }));
  t.is((await run(['git', '-C', clone, 'rev-parse', 'HEAD'], { env })).stdout.trim(), commit);
  t.is((await run(['git', '-C', clone, 'fsck', '--full'], { env })).code, 0);
  succeeds(t, await run(['git', '-C', clone, 'fetch', '--quiet'], { env }));
  const refused = await run(['git', 'clone', `https://${FORBIDDEN}/git/made.git`, `${clone}-2`], { env });
  t.is(refused.code, 128);
  t.regex(refused.stderr, /CONNECT tunnel failed, response 403/);
});

withWorld('pip downloads a wheel from an index', async (t) => {
  const folder = world().makeFolder('pip');
  const pip = ['python3', '-m', 'pip', '--isolated', '--disable-pip-version-check', 'download', '--no-cache-dir'];
  const index = ['--index-url', `https://${ORIGINS.pypi}/simple`, '--cert', world().outside.authority];
  const words = [...pip, ...index, '--proxy', PROXY, '--retries', '0', '--dest', folder, WHEEL];
  succeeds(t, await run(words, { env: { ...PROXY_ENV, HOME: folder } }));
  t.is(fileDigest(join(folder, wheel.file)), wheel.digest);
});

withWorld('socat reaches an echo by CONNECT, and its half-closed connection returns the rest', async (t) => {
  const address = `PROXY:127.0.0.1:${ORIGINS.files}:7,proxyport=${PROXY_PORT}`;
  const script = 'printf "%s" "$2" | socat -t 20 - "$1"';
  const ran = await run(['sh', '-c', script, 'sh', address, 'to and fro']);
  t.deepEqual(ran, { code: 0, stdout: 'to and fro', stderr: '' });
  const refused = await run(['socat', '-', `PROXY:127.0.0.1:${FORBIDDEN}:7,proxyport=${PROXY_PORT}`]);
  t.is(refused.code, 1);
  t.regex(
    refused.stderr,
    / CONNECT forbidden\.example\.test:7: Not Allowed By vproxy: no entry allows it; on the host: vproxy egress allow \S+\/internet forbidden\.example\.test:7\n$/,
  );
});

// Many connections at once
