// The artefacts of a release, and the commands that make them.
import { join } from 'node:path';
import { PROCESSORS } from '../../guest/packaging/build.mjs';

/** Architectures of the executable and its packages, as Node, Debian and RPM name them. */
const ARCHITECTURES = [
  { node: 'x64', debian: 'amd64', rpm: 'x86_64' },
  { node: 'arm64', debian: 'arm64', rpm: 'aarch64' },
];

/**
 * Returns the executables, which packages are made of, and the other artefacts, those that take longest first. In each row a
 * `command` makes `files` in the folder `output`, or in another (`from`). `quick`: without compression, for tests.
 */
export function listArtefacts({ version, output, quick }) {
  const script = (path, ...words) => [process.execPath, path, ...words];
  const into = ['--output', output];
  const packed = [...into, ...(quick ? ['--quick'] : [])];
  const image = `vproxy-${version}-image-${ARCHITECTURES.find(({ node }) => node === process.arch).debian}.tar`;

  const executables = ARCHITECTURES.map(({ node }) => ({
    files: [`vproxy-linux-${node}`],
    from: 'dist',
    command: script('packaging/sea.mjs', '--arch', node),
  }));
  const packages = ARCHITECTURES.flatMap(({ debian, rpm }) => [
    {
      files: [`vproxy_${version}-1_${debian}.deb`],
      command: script('packaging/deb/build.mjs', '--architecture', debian, ...packed),
    },
    {
      files: [`vproxy-${version}-1.${rpm}.rpm`],
      command: script('packaging/rpm/build.mjs', '--architecture', rpm, ...packed),
    },
  ]);
  const guestPackages = [
    ...Object.values(PROCESSORS).map((architecture) => ({
      files: [`vproxy-guest_${version}-1_${architecture}.deb`],
      command: script('guest/packaging/deb.mjs', '--architecture', architecture, ...packed),
    })),
    ...ARCHITECTURES.map(({ rpm }) => ({
      files: [`vproxy-guest-${version}-1.${rpm}.rpm`],
      command: script('packaging/rpm/build.mjs', '--name', 'vproxy-guest', '--architecture', rpm, ...packed),
    })),
  ];
  const others = [
    {
      files: Object.keys(PROCESSORS).map((name) => `vproxy-guest-linux-${name}`),
      command: script('guest/packaging/build.mjs', ...into),
    },
    { files: [image], command: script('packaging/container/build.mjs', '--output', join(output, image)) },
    { files: [`vproxy-${version}.tgz`], command: ['npm', 'pack', '--pack-destination', output] },
    { files: ['vproxy.cjs'], command: script('packaging/bundle.mjs', join(output, 'vproxy.cjs')) },
    { files: [`python3-vproxy_${version}-1_all.deb`], command: script('packaging/deb/python/build.mjs', ...into) },
    { files: [`vproxy-${version}-py3-none-any.whl`], command: script('packaging/release/wheel.mjs', ...into) },
    { files: [`vproxy-vproxy-${version}.tar.gz`], command: script('packaging/release/collection.mjs', ...into) },
    { files: [`vproxy-${version}.cdx.json`], command: script('packaging/release/sbom.mjs', ...into) },
    { files: ['LICENCES', 'RELEASE-NOTES.md'], command: script('packaging/release/documents.mjs', ...into) },
  ];
  return { executables, others: [...packages, ...others, ...guestPackages] };
}
