/** A multiplexer written in Go: built from `tools/bench/peers/go/NAME/main.go` against Debian's packages, without a network. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { PROJECT_ROOT } from '../../../spec/helpers/files.js';
import { findProgram } from '../process/find-program.js';
import { findFreePort } from '../process/free-port.js';
import type { Contender } from './contender.js';

/** Where Debian puts the sources of Go packages. */
const GOPATH = '/usr/share/gocode';

/** The contender `name`, which uses the package `importPath` of the Debian package `debianPackage`. */
export function goPeer(name: string, importPath: string, debianPackage: string): Contender {
  return {
    id: name,
    title: name,
    descriptorsPerStream: 1,
    missing: () => {
      if (findProgram('go') !== undefined && existsSync(join(GOPATH, 'src', importPath))) return undefined;
      return `apt-get install golang-go ${debianPackage}`;
    },
    async start({ programs, folder, target, through }) {
      const program = build(name);
      const path = join(folder, 'channel.sock');
      const address = await findFreePort();
      return {
        address,
        near: [programs.start(program, ['near', `127.0.0.1:${address}`, path])],
        far: [programs.start(program, ['far', through?.(path) ?? path, `127.0.0.1:${target}`])],
      };
    },
  };
}

/** The built program; built when it is missing or older than its source. */
function build(name: string): string {
  const source = join(PROJECT_ROOT, 'tools/bench/peers/go', name, 'main.go');
  const program = join(PROJECT_ROOT, 'dist/tools/bench/peers', name);
  if (existsSync(program) && statSync(program).mtimeMs >= statSync(source).mtimeMs) return program;
  mkdirSync(dirname(program), { recursive: true });
  const cache = mkdtempSync(join(tmpdir(), 'vproxy-bench-go-'));
  try {
    execFileSync('go', ['build', '-o', program, source], {
      env: { ...process.env, GO111MODULE: 'off', GOFLAGS: '', GOPATH, GOCACHE: cache },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 300_000,
    });
  } finally {
    rmSync(cache, { recursive: true, force: true });
  }
  return program;
}
