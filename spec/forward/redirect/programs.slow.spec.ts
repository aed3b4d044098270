/**
 * Programs that ignore proxies, in a guest without a network: what nftables redirects to vproxy or vproxy-guest reaches the egress
 * of the host, by name.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { AS_GUEST, GUEST } from '../../guest-program/build.js';
import { compileGuest } from '../../guest-program/compile.js';
import {
  type MadeRepository,
  makeAptMachine,
  makeGitRepository,
  makeIndex,
  makeRepository,
} from '../../helpers/egress-sites.js';
import {
  ADDRESSES,
  CLOSED_PORT,
  FORBIDDEN,
  ORIGINS,
  TRAP,
  useEgressWorld,
  WORLD_NEEDS,
} from '../../helpers/egress-world.js';
import { PROJECT_ROOT, sha256 } from '../../helpers/files.js';
import type { NetworkRunOptions } from '../../helpers/namespaces.js';
import { serialTestWith } from '../../helpers/test-with.js';
import { eventually } from '../../helpers/time.js';
import type { RunResult } from '../../helpers/vproxy-process.js';
import { patternPieces } from '../../vm/rig/pattern.js';

const withWorld = serialTestWith(...WORLD_NEEDS, 'go', 'nft');

/** The commands in docs/egress.md; this kernel may lack the dummy device. */
const [, SETUP = ''] =
  /```sh\n(ip link add vproxy0 [^`]*)```/.exec(readFileSync(join(PROJECT_ROOT, 'docs/egress.md'), 'utf8')) ?? [];
const SHELL = `nft() { /usr/sbin/nft "$@"; }
ip() { command ip "$@" || { [ "$5" = dummy ] && command ip link add vproxy0 type bridge; }; }
`;

const PROGRAM = join(PROJECT_ROOT, 'dist/program/vproxy.cjs');
const REDIRECT = ['-o', 'internet:redirect:127.0.0.1:3129', '-o', 'internet:redirect:[::1]:3129'];
const RESOLVER = ['-o', 'dns:127.0.0.53:53', '-o', 'dns:udp:127.0.0.53:53'];
/** A server that only the rules lead to the resolver. */
const RESOLV_CONF = 'nameserver 192.0.2.53\n';

/** A connection to ADDRESS:PORT that writes a word: prints what came until the end, or the error. */
const CALL = `const [host, port, word] = process.argv.slice(1);
const socket = require('net').connect({ host, port, allowHalfOpen: true }, () => socket.end(word));
socket.on('data', (bytes) => process.stdout.write(bytes)).on('error', ({ code }) => console.log(code));`;

const FETCH = `fetch(process.argv[1]).then(async (answer) => {
  const bytes = Buffer.from(await answer.arrayBuffer());
  console.log(answer.status, bytes.length, require('crypto').createHash('sha256').update(bytes).digest('hex'));
}, (error) => console.log(error.cause?.code));`;

const GO = `package main

import ("fmt"; "io"; "net/http"; "os")

func main() {
	answer, err := http.Get(os.Args[1])
	if err != nil { fmt.Println(err); return }
	count, err := io.Copy(io.Discard, answer.Body)
	fmt.Println(answer.StatusCode, count, err)
}
`;

const succeeds = (t: ExecutionContext, { code, stdout, stderr }: RunResult): void => {
  t.is(code, 0, `${stdout}${stderr}`);
};

const fileDigest = (path: string): string => sha256(readFileSync(path));

const BYTES = 3_000_001;
const PATTERN = sha256(Buffer.concat([...patternPieces(BYTES)]));

/** A connection to an echo, with a command between two words. */
const ACROSS = `const [host, port, ...command] = process.argv.slice(1);
const socket = require('net').connect({ host, port }, () => socket.write('one'));
socket.on('error', ({ code }) => console.log(code)).on('data', (bytes) => process.stdout.write(bytes)).once('data', () => {
  require('child_process').execFileSync(command[0], command.slice(1));
  socket.end('two');
});`;

const GUEST_CONTROL = join(tmpdir(), `vproxy-redirect-${process.pid}.sock`);

test.after.always(() => rmSync(dirname(GUEST), { recursive: true, force: true }));

for (const [name, nft, guest] of [
  ['vproxy-guest', [GUEST, 'nft'], { ...AS_GUEST, forwards: [...REDIRECT, ...RESOLVER], resolvConf: RESOLV_CONF }],
  [
    'vproxy',
    [process.execPath, PROGRAM, 'egress', 'nft'],
    {
      forwards: [...REDIRECT, ...RESOLVER, '--control', GUEST_CONTROL],
      resolvConf: RESOLV_CONF,
    },
  ],
] as const) {
  let repository: MadeRepository | undefined;
  let wheel = { file: '', digest: '' };
  let commit = '';

  const world = useEgressWorld(
    test,
    (folder) => {
      if (name === 'vproxy-guest') compileGuest(GUEST);
      repository = makeRepository(folder, ORIGINS.deb);
      wheel = makeIndex(folder, ORIGINS.pypi, 'made_wheel');
      commit = makeGitRepository(folder, 'made');
    },
    { ...guest, hostArgs: ['-v'] },
  );

  /** Runs a command in the guest's network until it exits. */
  const run = (command: readonly string[], options?: NetworkRunOptions) => world().inside.run(command, options);
  const curl = (...more: readonly string[]) => run(['curl', '-sS', '--cacert', world().outside.authority, ...more]);
  const node = (script: string, ...more: readonly string[]) =>
    run([process.execPath, '-e', script, ...more], { env: { NODE_EXTRA_CA_CERTS: world().outside.authority } });

  withWorld(`${name}: prints rules that nft accepts, beside a device without a network`, async (t) => {
    const script = SETUP.replace('vproxy egress nft', nft.join(' '));
    t.not(script, SETUP);
    succeeds(t, await run(['sh', '-euc', `${SHELL}${script}`]));
    t.regex(
      (await run(['/usr/sbin/nft', 'list', 'ruleset'])).stdout,
      /oifname != "vproxy0" accept\n.*53\n.*127\.0\.0\.1:3129\n.*\[::1\]:3129\n/,
    );
    // Replaces its own, and needs no device.
    const [, again = ''] = /(\S*vproxy\S* (?:egress )?nft .*) --device vproxy0/.exec(script) ?? [];
    succeeds(t, await run(['sh', '-euc', `${again} | /usr/sbin/nft -f -`]));
  });

  for (const scheme of ['http', 'https']) {
    withWorld(`${name}: curl, fetch of Node and a program in Go reach a name over ${scheme}`, async (t) => {
      const url = `${scheme}://${ORIGINS.files}/-/pattern/${BYTES}`;
      const down = join(world().makeFolder(`curl-${scheme}`), 'down');
      for (const family of ['-4', '-6']) {
        succeeds(t, await curl(family, '-o', down, url));
        t.is(fileDigest(down), PATTERN);
      }
      const fetched = await node(FETCH, url);
      t.is(fetched.stdout, `200 ${BYTES} ${PATTERN}\n`, fetched.stderr);
      const folder = world().makeFolder('go');
      writeFileSync(join(folder, 'main.go'), GO);
      const env = { HOME: folder, SSL_CERT_FILE: world().outside.authority, GOFLAGS: '-mod=mod', GODEBUG: 'netdns=go' };
      const got = await run(['go', 'run', join(folder, 'main.go'), url], { env });
      t.is(got.stdout, `200 ${BYTES} <nil>\n`, got.stderr);
    });
  }

  withWorld(`${name}: the host judges and lists the name, and logs the address`, async (t) => {
    const from = world().host.lines.length;
    succeeds(t, await curl('-4', `http://${ORIGINS.files}/-/pattern/1`));
    const line = new RegExp(`vm1: stream \\d+: ${ORIGINS.files}:80 \\(redirected from ${ADDRESSES[0]}\\) at `);
    await world().host.waitForLine(line, { from });
  });

  withWorld(`${name}: apt-get installs packages`, async (t) => {
    t.timeout(120_000);
    const { all = '', keyFile = '', packages = new Map<string, string>() } = repository ?? {};
    const url = `https://${ORIGINS.deb}/debian`;
    const settings = [`Acquire::https::CAInfo "${world().outside.authority}";`];
    const { env, root } = makeAptMachine(world().makeFolder('apt'), url, settings, keyFile);
    succeeds(t, await run(['apt-get', 'update'], { env }));
    succeeds(t, await run(['apt-get', 'install', '--yes', all], { env, timeoutMs: 120_000 }));
    for (const [each, digest] of packages) t.is(fileDigest(join(root, `usr/share/${each}/data`)), digest);
  });

  withWorld(`${name}: git clones, and pip downloads a wheel`, async (t) => {
    const folder = world().makeFolder('git');
    const env = { GIT_SSL_CAINFO: world().outside.authority, GIT_TERMINAL_PROMPT: '0', HOME: folder };
    const clone = join(folder, 'made');
    succeeds(t, await run(['git', 'clone', '--quiet', `https://${ORIGINS.git}/git/made.git`, clone], { env }));
    t.is((await run(['git', '-C', clone, 'rev-parse', 'HEAD'], { env })).stdout.trim(), commit);
    const pip = ['python3', '-m', 'pip', '--isolated', '--disable-pip-version-check', 'download', '--no-cache-dir'];
    const index = ['--index-url', `https://${ORIGINS.pypi}/simple`, '--cert', world().outside.authority];
    const down = [...pip, ...index, '--retries', '0', '--dest', folder, 'made_wheel'];
    succeeds(t, await run(down, { env: { HOME: folder } }));
    t.is(fileDigest(join(folder, wheel.file)), wheel.digest);
  });

  withWorld(`${name}: a half-closed connection returns the rest`, async (t) => {
    const called = await node(CALL, ORIGINS.files, '7', 'to and fro');
    t.is(called.stdout, 'to and fro', called.stderr);
  });

  withWorld(`${name}: an address that no resolver answered is reached as an address`, async (t) => {
    succeeds(t, await curl('-o', '/dev/null', `http://${ADDRESSES[0]}/-/pattern/1`));
  });

  for (const [what, host, port, why] of [
    ['an address that no entry allows', '203.0.114.9', '80', '403 Not Allowed By vproxy: no entry allows it'],
    ['the loopback of the host', TRAP, '80', null],
    ['a name that no entry allows', FORBIDDEN, '80', null],
    ['a port where nothing listens', ORIGINS.files, String(CLOSED_PORT), '502 Connection Refused'],
  ] as const) {
    withWorld(`${name}: ${what} is refused`, async (t) => {
      const from = world().guest.lines.length;
      const called = await node(CALL, host, port, 'x');
      t.regex(called.stdout, why === null ? /^(ENOTFOUND|EAI_AGAIN)\n$/ : /^ECONNRESET\n$/, called.stderr);
      if (why !== null) await world().guest.waitForLine(new RegExp(`:${port}: ${why}`), { from });
    });
  }

  withWorld(`${name}: a connection that nftables did not redirect is reset`, async (t) => {
    const from = world().guest.lines.length;
    const ended = await curl('--max-time', '10', 'http://127.0.0.1:3129/', 'http://[::1]:3129/');
    // It may come before curl notices that it is connected.
    t.true(ended.code === 7 || ended.code === 56, ended.stderr);
    await world().guest.waitForLine(
      /redirect:127\.0\.0\.1:3129 \(internet\) was closed: nftables did not redirect it/,
      {
        from,
      },
    );
  });

  withWorld(`${name}: 200 connections in any state leave nothing behind`, async (t) => {
    const flapping = `const net = require('net');
      const [host, port] = process.argv.slice(1);
      let open = 0;
      for (let index = 0; index < 200; index += 1) {
        open += 1;
        const socket = net.connect({ host, port });
        socket.on('error', () => undefined).on('data', () => undefined);
        socket.on('close', () => (open -= 1) === 0 && console.log('over'));
        socket.write('x'.repeat(index * 100));
        if (index % 4 === 0) socket.end();
        else setTimeout(() => (index % 4 === 1 ? socket.resetAndDestroy() : socket.destroy()), index % 50);
      }`;
    const count = async () => (await run(['sh', '-c', `ls /proc/${world().guest.pid}/fd | wc -l`])).stdout.trim();
    const before = await count();
    for (const port of ['7', String(CLOSED_PORT), '9'])
      t.is((await node(flapping, ADDRESSES[0], port)).stdout, 'over\n');
    await eventually(async () => t.is(await count(), before));
  });

  withWorld(`${name}: open connections and known names outlive an upgrade of a vproxy, and a reload`, async (t) => {
    const host = join(world().outside.folder, 'host.sock');
    const on = (command: string, socket: string) => [process.execPath, PROGRAM, command, '--socket', socket];
    const named = ['-o', '/dev/null', '--resolve', `${ORIGINS.files}:443:${ADDRESSES[0]}`];
    const url = `https://${ORIGINS.files}/-/pattern/1`;
    succeeds(t, await curl('-4', '-o', '/dev/null', url));
    const commands = [on('upgrade', host), on('reload', host)];
    if (name === 'vproxy') commands.push(on('upgrade', GUEST_CONTROL));
    // They are no longer children of this process.
    t.teardown(async () => {
      await run(on('stop', host));
      if (name === 'vproxy') await run(on('stop', GUEST_CONTROL));
    });
    for (const command of commands) {
      const called = await node(ACROSS, ORIGINS.files, '7', ...command);
      t.is(called.stdout, 'onetwo', called.stderr);
      // Without a question to the resolver.
      succeeds(t, await curl(...named, url));
    }
  });
}
