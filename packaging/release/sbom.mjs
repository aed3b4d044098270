// Writes vproxy-VERSION.cdx.json, what the artefacts contain, as CycloneDX: node packaging/release/sbom.mjs --output FOLDER
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { listLibraries, listPackages } from '../container/libraries.mjs';
import { EMBEDDED, fetchRuntime, integrityOf } from '../runtimes.mjs';
import { sourceDate } from '../source-date.mjs';

const PROJECT = join(import.meta.dirname, '../..');
const manifest = JSON.parse(readFileSync(join(PROJECT, 'package.json'), 'utf8'));
const { version } = manifest;
const { output } = parseArgs({ options: { output: { type: 'string' } } }).values;
const run = (program, ...words) =>
  execFileSync(program, words, { cwd: PROJECT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });

const project = { version, licenses: [{ license: { id: 'MIT' } }] };
const goLicence = [{ license: { id: 'BSD-3-Clause' } }];

/**
 * The packages of npm that vproxy needs at run time: of koffi's native libraries, those in the executables. `--omit=dev` would also
 * leave out packages that a development dependency needs as well.
 */
function readNpm() {
  const bom = JSON.parse(run('npm', 'sbom', '--package-lock-only', '--sbom-format=cyclonedx'));
  const root = bom.metadata.component['bom-ref'];
  const direct = Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies });
  const isShipped = (ref) => !/^@koromix\/koffi-(?!linux-(?:x64|arm64)@)/.test(ref);
  const needs = new Map(bom.dependencies.map(({ ref, dependsOn }) => [ref, dependsOn.filter(isShipped)]));
  needs.set(
    root,
    needs.get(root).filter((ref) => direct.includes(ref.slice(0, ref.lastIndexOf('@')))),
  );
  const shipped = new Set([root]);
  // A set also gives what is added during the loop.
  for (const ref of shipped) for (const one of needs.get(ref) ?? []) shipped.add(one);
  const components = bom.components.filter((one) => shipped.has(one['bom-ref']));
  const dependencies = [...shipped].map((ref) => ({ ref, dependsOn: needs.get(ref) ?? [] }));
  return { ...bom, components, dependencies };
}

/** Node as the registry has it, with the parts that it names itself. */
function describeNode() {
  const own = join(fetchRuntime(EMBEDDED, process.arch), 'bin/node');
  const { node, modules, napi, ...parts } = JSON.parse(run(own, '-p', 'JSON.stringify(process.versions)'));
  return ['x64', 'arm64'].map((arch) => {
    const purl = `pkg:npm/node-linux-${arch}@${node}`;
    const content = Buffer.from(integrityOf(EMBEDDED, arch).replace('sha512-', ''), 'base64').toString('hex');
    const components = Object.entries(parts)
      .filter(([, number]) => number !== '')
      .map(([name, number]) => ({ 'bom-ref': `${purl}#${name}`, type: 'library', name, version: number }));
    const hashes = [{ alg: 'SHA-512', content }];
    return { type: 'platform', name: `node-linux-${arch}`, version: node, purl, hashes, components };
  });
}

/** The packages of this machine whose libraries are in the image. */
function describeImage() {
  const names = listPackages(listLibraries(`dist/vproxy-linux-${process.arch}`));
  if (names.length === 0) return [];
  const format = '--showformat=${Package} ${Version} ${Architecture}\n';
  const rows = run('dpkg-query', '--show', format, ...names)
    .trim()
    .split('\n')
    .map((line) => line.split(' '));
  return rows.map(([name, number, architecture]) => {
    const purl = `pkg:deb/debian/${name}@${encodeURIComponent(number)}?arch=${architecture}`;
    return { type: 'library', name, version: number, purl };
  });
}

const own = [
  { type: 'application', name: 'vproxy-guest', purl: `pkg:generic/vproxy-guest@${version}`, ...project },
  { type: 'library', name: 'vproxy (Python)', purl: `pkg:pypi/vproxy@${version}`, ...project },
  { type: 'library', name: 'vproxy.vproxy (Ansible)', purl: `pkg:generic/vproxy.vproxy@${version}`, ...project },
];
const go = run('go', 'env', 'GOVERSION').trim().replace(/^go/, '');
const library = { type: 'library', name: 'stdlib', version: go, purl: `pkg:golang/stdlib@${go}`, licenses: goLicence };
const [guest, ...python] = own.map(({ purl }) => purl);
const inside = [...describeNode(), ...describeImage()];
const more = [...own, library, ...inside].map((one) => ({ 'bom-ref': one.purl, ...one }));

const { metadata, components, dependencies, ...bom } = readNpm();
const root = metadata.component['bom-ref'];
const contained = [guest, ...python, ...inside.map(({ purl }) => purl)];
const all = {
  ...bom,
  serialNumber: undefined,
  metadata: {
    ...metadata,
    timestamp: new Date(Number(sourceDate()) * 1000).toISOString(),
    // npm names it after the folder.
    component: { ...metadata.component, type: 'application', name: 'vproxy' },
  },
  components: [...components, ...more],
  dependencies: [
    ...dependencies.map(({ ref, dependsOn }) => ({
      ref,
      dependsOn: ref === root ? [...dependsOn, ...contained] : dependsOn,
    })),
    ...more.map(({ purl }) => ({ ref: purl, dependsOn: purl === guest ? [library.purl] : [] })),
  ],
};
// The same content has the same number.
const digits = createHash('sha256').update(JSON.stringify(all)).digest('hex');
const uuid = digits.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*$/, '$1-$2-8$3-8$4-$5');
const text = JSON.stringify({ ...all, serialNumber: `urn:uuid:${uuid}` }, null, 2);
writeFileSync(join(output, `vproxy-${version}.cdx.json`), `${text}\n`);
