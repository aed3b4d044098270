/** The hook sidecar for KubeVirt: the effect of its hook on a domain, and the manifest that uses it. */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { PROJECT_ROOT, projectText, temporaryFolder } from '../helpers/files.js';
import { channelsOf } from '../helpers/given-options.js';
import { testWith } from '../helpers/test-with.js';
import { runVproxy } from '../helpers/vproxy-process.js';

const HOOK = join(PROJECT_ROOT, 'packaging/container/kubevirt/onDefineDomain');

/** As KubeVirt's encoder writes them: no element closes itself, quotes are double, levels are tabs. */
const DOMAIN = projectText('spec/fixtures/kubevirt-domain.xml').trimEnd();

interface HookRun {
  readonly shell?: readonly [string, ...string[]];
  /** KubeVirt's name of the container; null: not passed. */
  readonly container?: string | null;
}

function runHook(args: readonly string[], { shell = ['sh'], container = 'hook-sidecar-0' }: HookRun = {}) {
  const [program, ...words] = shell;
  const env = { PATH: process.env['PATH'], ...(container === null ? {} : { CONTAINER_NAME: container }) };
  const { status, stdout, stderr } = spawnSync(program, [...words, HOOK, ...args], { env, encoding: 'utf8' });
  return { status, stdout, stderr };
}

const onDomain = (domain: string, options?: HookRun) => runHook(['--vmi', '{}', '--domain', domain], options);

/** The domain with lines at the end of its devices. */
const withDevice = (lines: string): string => `${DOMAIN.replace('\t</devices>', `${lines}\t</devices>`)}\n`;

/** What `vproxy libvirt-xml` prints for a path, at its place in the domain. */
async function withPort(path: string): Promise<string> {
  const { stdout } = await runVproxy(['libvirt-xml', '--path', path]);
  return withDevice(stdout.replace(/^( *)(?=<)/gm, (spaces) => `\t\t${'\t'.repeat(spaces.length / 2)}`));
}

test('the hook adds the port that vproxy libvirt-xml prints, and leaves the rest of the domain unchanged', async (t) => {
  const expected = await withPort('/var/run/kubevirt-hooks/hook-sidecar-0/org.vproxy.0');
  t.true(expected.includes('org.vproxy.0'));
  t.deepEqual(onDomain(DOMAIN), { status: 0, stdout: expected, stderr: '' });
});

testWith('busybox')('the shell of busybox gives the same result', (t) => {
  t.deepEqual(onDomain(DOMAIN, { shell: ['busybox', 'sh'] }), onDomain(DOMAIN));
});

test('if KubeVirt does not name the container, its folder is that of all hooks', async (t) => {
  const expected = await withPort('/var/run/kubevirt-hooks/org.vproxy.0');
  t.is(onDomain(DOMAIN, { container: null }).stdout, expected);
});

testWith('virt-xml-validate')("the domain is valid by libvirt's schema", (t) => {
  const file = join(temporaryFolder(t), 'domain.xml');
  writeFileSync(file, onDomain(DOMAIN).stdout);
  const { status, stdout, stderr } = spawnSync('virt-xml-validate', [file, 'domain'], { encoding: 'utf8' });
  t.is(status, 0, stdout + stderr);
});

test('a domain that has the port is left unchanged', (t) => {
  const once = onDomain(DOMAIN).stdout;
  t.is(onDomain(once.trimEnd()).stdout, once);
  const own = withDevice('<channel type="unix"><target name="org.vproxy.0" type="virtio"></target></channel>');
  t.is(onDomain(own.trimEnd()).stdout, own);
});

test('on an error the hook fails with one line and prints nothing, so the VM does not start without its port', (t) => {
  const twice = '<domain><devices></devices><devices></devices></domain>';
  const noName = "a'/><x y='";
  for (const [args, message, container] of [
    [['--vmi', '{}'], '--domain: missing'],
    [['--vmi', '{}', '--domain', ''], '--domain: missing'],
    [['--vmi', '{}', '--domain'], '--domain: missing value'],
    [['--cloud-init', '{}'], '--cloud-init: unknown option'],
    [['--domain', '<domain/>'], 'the domain has no </devices>'],
    [['--domain', twice], 'the domain has more than one </devices>'],
    [['--domain', DOMAIN], `CONTAINER_NAME: "${noName}" may only contain a-z, 0-9 and "-"`, noName],
  ] as const) {
    const result = runHook(args, container === undefined ? {} : { container });
    t.deepEqual(result, { status: 1, stdout: '', stderr: `onDefineDomain: ${message}\n` });
  }
});

test('the manifest requests the sidecar in the form KubeVirt reads, with valid options', (t) => {
  const manifest = projectText('packaging/kubernetes/kubevirt.yaml');
  const [, text = ''] = /hookSidecars: >-\n((?: {10,}.*\n)+)/.exec(manifest) ?? [];
  const sidecars = JSON.parse(text) as { image: string; args: string[] }[];
  t.is(sidecars.length, 1);
  const channel = '--channel=unix-connect:/var/run/kubevirt-hooks/org.vproxy.0';
  t.is(channelsOf([channel, ...(sidecars[0]?.args ?? [])]).length, 1);
});
