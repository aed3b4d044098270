/** `packaging/container/build.mjs`: the image of the single executable, and the pods that use it. */
import { type ChildProcess, execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { PROJECT_ROOT, projectText, temporaryFolder } from '../helpers/files.js';
import { endHolder, startHolder } from '../helpers/namespaces.js';
import { hasNeed } from '../helpers/needs.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { type RunResult, runProgram } from '../helpers/vproxy-process.js';
import { buildRelease, RELEASE, RELEASE_NEEDS, VERSION } from './release.js';

const NEEDS = ['root', 'busybox', 'curl', ...RELEASE_NEEDS] as const;
const withPodman = serialTestWith(...NEEDS);
const BUILD = join(PROJECT_ROOT, 'packaging/container/build.mjs');
const SIDECAR = join(PROJECT_ROOT, 'packaging/kubernetes/sidecar.yaml');
/** The image's names in the manifest: vproxy's, and that of the VM. */
const [IMAGE = '', VM_IMAGE = ''] = [...readFileSync(SIDECAR, 'utf8').matchAll(/image: (\S+)/g)].map(
  ([, name]) => name,
);
const [HOOK_IMAGE, SOURCE] = ['localhost/vproxy-kubevirt:0.1.0', 'https://example.org/vproxy.git'];

/** Maximum sizes of the stored and of the compressed image: Node is nearly all of it. */
const [MAX_BYTES, MAX_ARCHIVE_BYTES] = [125_000_000, 50_000_000];

let folder = '';
let host: PodHost;

test.before('an image is made of the executable', async (t) => {
  if (!NEEDS.every(hasNeed)) return;
  buildRelease(t);
  folder = mkdtempSync(join(tmpdir(), 'vproxy-container-'));
  host = await PodHost.start(folder);
  await host.output(['node', BUILD, '--tag', IMAGE, '--source', SOURCE, '--output', join(folder, 'image.tar')]);
});

test.after.always(async () => {
  if (folder === '') return;
  await host.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** A container of the image without anything writable, as a user unknown to any file. */
const bare = (...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> =>
  host.run([
    ...['podman', 'run', '--rm', '--network=none', '--read-only', '--read-only-tmpfs=false', '--cap-drop=all'],
    ...['--security-opt=no-new-privileges', '--passwd=false', '--user=107', IMAGE, ...args],
  ]);

interface Manifest {
  config: { digest: string };
  layers: { digest: string }[];
  annotations: Record<string, string>;
}

/** Unpacks an OCI archive into a folder; returns its manifest, and what reads another blob. */
function readManifest(archive: string, layout: string): { manifest: Manifest; read: (digest: string) => unknown } {
  execFileSync('tar', ['-xf', archive, '-C', layout]);
  const read = (digest: string): unknown =>
    JSON.parse(readFileSync(join(layout, 'blobs', digest.replace(':', '/')), 'utf8'));
  const { manifests } = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8')) as {
    manifests: { digest: string }[];
  };
  return { manifest: read(manifests[0]?.digest ?? '') as Manifest, read };
}

withPodman('there is nothing in it but the executable, its libraries, accounts and licences, and it is small', (t) => {
  const archive = join(folder, 'image.tar');
  t.true(statSync(archive).size < MAX_ARCHIVE_BYTES, `${statSync(archive).size} bytes`);
  const [layout, root] = [temporaryFolder(t), temporaryFolder(t)];
  const { manifest, read } = readManifest(archive, layout);
  t.is(manifest.layers.length, 1);
  const released = join(RELEASE, `vproxy-${VERSION}-image-amd64.tar`);
  t.deepEqual(readManifest(released, temporaryFolder(t)).manifest.layers, manifest.layers, 'the image of the release');
  const listed = execFileSync(
    'tar',
    ['-xzvf', join(layout, 'blobs', (manifest.layers[0]?.digest ?? '').replace(':', '/')), '-C', root],
    { encoding: 'utf8' },
  );
  const files = listed.split('\n').filter((name) => name !== '' && !name.endsWith('/'));
  const expected =
    /^(usr\/bin\/vproxy(-storage)?|usr\/lib\/vproxy\/koffi\.node|lib(64)?\/(\S+\/)?(ld-linux-|lib)\S+\.so\.\d+|etc\/(passwd|group|nsswitch\.conf)|usr\/share\/doc\/\S+)$/;
  t.deepEqual(
    files.filter((name) => !expected.test(name)),
    [],
  );
  t.true(files.length > 10);
  t.true(existsSync(join(root, 'usr/share/doc/libstdc++6/copyright')));
  const size = Number(execFileSync('du', ['-sb', root], { encoding: 'utf8' }).split('\t')[0]);
  t.true(size < MAX_BYTES, `${size} bytes`);

  const { config } = read(manifest.config.digest) as {
    config: Record<string, unknown> & { Labels: Record<string, string> };
  };
  t.is(config['User'], '65532:65532');
  t.deepEqual(config['Entrypoint'], ['/usr/bin/vproxy']);
  t.false('Healthcheck' in config);
  const { description } = JSON.parse(projectText('package.json')) as Record<string, string>;
  const expectedFacts = { title: 'vproxy', version: VERSION, description, licenses: 'MIT', source: SOURCE };
  for (const facts of [config.Labels, manifest.annotations]) {
    for (const [name, value] of Object.entries(expectedFacts)) t.is(facts[`org.opencontainers.image.${name}`], value);
    t.regex(facts['org.opencontainers.image.revision'] ?? '', /^[\da-f]{40}(-dirty)?$/);
    t.false('org.opencontainers.image.documentation' in facts);
  }
});

withPodman('it works as any user on a root that is only read, koffi included', async (t) => {
  const { stdout, stderr } = await bare('--version');
  t.regex(stdout, /^vproxy \S+ \(protocol 1, /, stderr);
  const doctor = await bare('doctor', '--json', '-c', 'unix-listen:/nowhere/x', '--allow-exec');
  const { findings } = JSON.parse(doctor.stdout) as { findings: { id: string }[] };
  t.true(findings.length > 0);
  t.deepEqual(
    findings.filter(({ id }) => id.includes('koffi')),
    [],
  );
});

/** A process that acts as QEMU and its guest: it listens as QEMU does, and its service is the listener on 9464 in the pod. */
function vmImage(socket: string): Promise<string> {
  const file = join(folder, 'Containerfile');
  writeFileSync(
    file,
    `FROM ${IMAGE}\nUSER 107\nCMD ["-c","unix-listen:${socket}","-i","ssh:127.0.0.1:9464","--no-control"]\n`,
  );
  return host.output(['podman', 'build', '--quiet', '--pull-never', '--tag', VM_IMAGE, '--file', file, folder]);
}

withPodman('podman kube play runs the sidecar as it is: forwards, metrics, probes and the hook work', async (t) => {
  t.timeout(120_000);
  await vmImage('/channel/vm1.sock');
  await host.output(['podman', 'kube', 'play', SIDECAR]);
  const logs = (name: string) => host.run(['podman', 'logs', name]);
  try {
    const manifest = readFileSync(SIDECAR, 'utf8');
    const all = (pattern: RegExp) => [...manifest.matchAll(pattern)].map(([, found = '']) => found);
    const [live = '', ready = '', ...others] = all(/path: (\/\w+z\b.*)/g);
    const [preStop = [], ...commands] = all(/command: \[(.*)\]/g).map((words) => words.replaceAll("'", '').split(', '));
    t.deepEqual([live, others, preStop[1], commands], ['/healthz', [], 'drain', []]);
    // As the kubelet does it; podman would run curl in the container.
    const probe = (path: string) => host.run(['curl', '--silent', '--fail', `http://127.0.0.1:9464${path}`]);
    await eventually(async () => (await probe(ready)).code === 0, { timeoutMs: 60_000, what: 'readiness' });
    t.is((await probe(live)).stdout, 'ok\n');
    // Through the forward, and the service of the other side, to the metrics of the first.
    for (const port of [9464, 9022]) {
      const metrics = await host.output(['curl', '--silent', '--fail', `http://127.0.0.1:${port}/metrics`]);
      t.regex(metrics, /^vproxy_channel_state\{channel="default",state="established"\} 1$/m);
    }
    // The hook ends with the container, which is restarted: podman may wait forever for the result of a call in it.
    await host.output(['podman', 'exec', '--detach', 'vm1-vproxy', ...preStop]);
    const restarts = () => host.output(['podman', 'inspect', '--format={{.RestartCount}}', 'vm1-vproxy']);
    await eventually(async () => Number(await restarts()) > 0, { timeoutMs: 60_000, what: 'the end by preStop' });
    t.regex((await logs('vm1-vproxy')).stderr, /"event":"draining"[^]*"event":"session-ended"[^]*\(shutdown\)/);
  } catch (error) {
    t.log((await logs('vm1-vproxy')).stderr, (await logs('vm1-qemu')).stderr);
    throw error;
  } finally {
    await host.run(['podman', 'kube', 'down', SIDECAR]);
  }
});

/** Acts as KubeVirt's shim, without gRPC: runs the hook once with the domain, forwards its output, and stays. */
const SHIM = `#!/bin/sh
set -eu
[ "$*" = '--version v1alpha3' ]
cd /var/run/kubevirt-hooks
onDefineDomain --vmi '{}' --domain "$(cat domain.xml)" > defined.xml.new
busybox mv defined.xml.new defined.xml
exec sleep 1000
`;

withPodman("a hook sidecar adds the port, and connects to it where the domain's QEMU listens", async (t) => {
  t.timeout(120_000);
  const shim = join(folder, 'sidecar-shim');
  writeFileSync(shim, SHIM);
  await host.output(['node', BUILD, '--tag', HOOK_IMAGE, '--sidecar-shim', shim]);
  // What KubeVirt mounts: a volume in the container of QEMU, and a folder of it in the sidecar.
  const hooks = join(folder, 'kubevirt-hooks');
  const own = join(hooks, 'hook-sidecar-0');
  mkdirSync(own, { recursive: true });
  for (const path of [hooks, own]) chmodSync(path, 0o777);
  writeFileSync(join(own, 'domain.xml'), readFileSync(join(PROJECT_ROOT, 'spec/fixtures/kubevirt-domain.xml')));
  const start = (name: string, mounted: string, words: readonly string[]) =>
    host.output([
      ...['podman', 'run', '--detach', '--name', name, '--network=host', '--user=107', '--cap-drop=all'],
      ...[`--volume=${mounted}:/var/run/kubevirt-hooks`, '--env=CONTAINER_NAME=hook-sidecar-0', ...words],
    ]);
  await start('hook', own, [HOOK_IMAGE, '--outgoing=ssh:127.0.0.1:9022', '--metrics=127.0.0.1:9464']);
  const defined = await eventually(() => readFileSync(join(own, 'defined.xml'), 'utf8'), { timeoutMs: 60_000 });
  const [, socket = ''] =
    /<source mode='bind' path='([^']*)'\/>\s*<target type='virtio' name='org\.vproxy\.0'\/>/.exec(defined) ?? [];
  t.is(socket, '/var/run/kubevirt-hooks/hook-sidecar-0/org.vproxy.0');
  await vmImage(socket);
  await start('qemu', hooks, [VM_IMAGE]);
  const wait = ['podman', 'exec', 'hook', 'vproxy', 'wait', '--service', 'ssh', '--timeout', '30'];
  const waited = await host.run([...wait, '--socket', '/run/vproxy/control.sock']);
  t.is(waited.code, 0, waited.stderr + (await host.run(['podman', 'logs', 'hook'])).stderr);
  t.regex(await host.output(['curl', '--silent', '--fail', 'http://127.0.0.1:9022/metrics']), /^vproxy_channel_state/m);
  await host.run(['podman', 'rm', '--force', '--time=1', 'hook', 'qemu']);
});

for (const [title, args, message] of [
  ['an unknown option', ['--push'], "Unknown option '--push'"],
  ['a missing executable', ['--executable', '/nowhere/x'], '/nowhere/x does not exist: run npm run sea'],
  ['a source that is not a URL', ['--source', 'vproxy.git'], '--source vproxy.git: not an http or https URL'],
  ['a missing shim', ['--sidecar-shim', '/nowhere/x'], '--sidecar-shim /nowhere/x: not found'],
] as const) {
  test(`${title} is rejected with one line`, (t) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [BUILD, ...args], { encoding: 'utf8' });
    t.deepEqual(
      { status, stdout, stderr },
      { status: 1, stdout: '', stderr: `packaging/container/build.mjs: ${message}\n` },
    );
  });
}

// A private environment for containers: podman and buildah with their own storage and network, as root.

/**
 * Processes, mounts and network are its own, so nothing of it outlives it. What podman and crun keep of containers is in /run and
 * /dev/shm. Where a machine has both versions of control groups, crun works with the older one alone.
 */
const HOLDER = `set -eu
mount --make-rprivate /
for folder in /run /dev/shm; do mount -t tmpfs none "$folder"; done
mkdir /run/lock
if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
ip link set lo up
echo ready
exec cat
`;

/** The caller that starts it stops it. */
class PodHost {
  /** The environment variables of the tools. */
  readonly env: Readonly<Record<string, string>>;
  readonly #holder: ChildProcess;
  readonly #launcher: readonly string[];

  private constructor(holder: ChildProcess, env: Readonly<Record<string, string>>) {
    this.#holder = holder;
    this.env = env;
    // unshare waits for its child, which is the first process of the namespaces.
    const [child = ''] = readFileSync(`/proc/${holder.pid}/task/${holder.pid}/children`, 'utf8').split(' ');
    this.#launcher = [`--target=${child}`, '--mount', '--net', '--pid', '--'];
  }

  /** With its storage in `folder`. */
  static async start(folder: string): Promise<PodHost> {
    const [storage, containers] = [join(folder, 'storage.conf'), join(folder, 'containers.conf')];
    mkdirSync(join(folder, 'images'));
    // vfs works on every file system, also on an overlay.
    writeFileSync(
      storage,
      `[storage]\ndriver = "vfs"\ngraphroot = "${join(folder, 'images')}"\nrunroot = "/run/images"\n`,
    );
    // Limits that a root without all rights can set, too.
    writeFileSync(
      containers,
      '[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n',
    );
    const namespaces = ['--mount', '--net', '--pid', '--fork', '--kill-child', '--mount-proc'];
    const holder = await startHolder(['unshare', ...namespaces, 'sh', '-c', HOLDER]);
    return new PodHost(holder, { CONTAINERS_STORAGE_CONF: storage, CONTAINERS_CONF: containers });
  }

  run(command: readonly string[]): Promise<RunResult> {
    const path = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;
    const env = { PATH: path, HOME: '/root', LC_ALL: 'C.UTF-8', ...this.env };
    return runProgram(['nsenter', ...this.#launcher, ...command], { env, timeoutMs: 120_000 });
  }

  /** Runs a command that must succeed, and resolves with its output. */
  async output(command: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(command);
    if (code !== 0) throw new Error(`${command.join(' ')} ended with status ${code}: ${stderr}`);
    return stdout;
  }

  /** Ends everything that runs there. */
  async stop(): Promise<void> {
    if (this.#holder.exitCode !== null || this.#holder.signalCode !== null) return;
    await endHolder(this.#holder);
    removeControlGroups();
  }
}

/** Removes podman's empty control groups, which belong to the machine. One in use cannot be removed. */
function removeControlGroups(): void {
  const root = '/sys/fs/cgroup';
  const folders = [root, ...readdirSync(root).map((name) => join(root, name))].map((name) =>
    join(name, 'libpod_parent'),
  );
  for (const folder of folders.filter((name) => existsSync(name)))
    spawnSync('find', [folder, '-depth', '-type', 'd', '-exec', 'rmdir', '{}', ';'], { stdio: 'ignore' });
}
