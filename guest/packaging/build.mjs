// Makes vproxy-guest for one processor or all: dist/vproxy-guest-linux-PROCESSOR, static and stripped, with go alone.
//
//     node guest/packaging/build.mjs [--processor amd64] [--output dist]
//
// The build is reproducible.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';

const PROJECT = join(import.meta.dirname, '../..');

/** Processors as Go names them, each with Debian's name. */
export const PROCESSORS = {
  ...{ amd64: 'amd64', arm64: 'arm64', arm: 'armhf' },
  ...{ 386: 'i386', riscv64: 'riscv64', mips64le: 'mips64el' },
};

export const { version } = JSON.parse(readFileSync(join(PROJECT, 'package.json'), 'utf8'));

/** Compiles the program to `file`: arm is version 7 with hard float, as armhf has it. */
export function buildProgram(processor, file) {
  const env = { ...process.env, CGO_ENABLED: '0', GOOS: 'linux', GOARCH: processor, GOARM: '7' };
  const flags = `-s -w -X main.version=${version}`;
  execFileSync('go', ['build', '-trimpath', '-buildvcs=false', '-ldflags', flags, '-o', file, '.'], {
    cwd: join(PROJECT, 'guest'),
    env: { ...env, GOFLAGS: '-mod=mod', GOPROXY: 'off' },
  });
}

if (process.argv[1] === import.meta.filename) {
  const { values } = parseArgs({
    options: { processor: { type: 'string' }, output: { type: 'string', default: join(PROJECT, 'dist') } },
  });
  const { processor } = values;
  if (processor !== undefined && !Object.hasOwn(PROCESSORS, processor))
    throw new Error(`--processor ${processor}: not one of ${Object.keys(PROCESSORS).join(', ')}`);
  mkdirSync(values.output, { recursive: true });
  for (const name of processor === undefined ? Object.keys(PROCESSORS) : [processor]) {
    const file = join(resolve(values.output), `vproxy-guest-linux-${name}`);
    buildProgram(name, file);
    console.log(file);
  }
}
