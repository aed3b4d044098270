// Makes dist/vproxy-linux-ARCH: Node and all of vproxy in one executable, for machines without Node. `--arch x64` (default) or
// `arm64`.
import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { EMBEDDED, fetchKoffi, fetchRuntime } from './runtimes.mjs';

/** The markers that Node looks for in its own executable. */
const RESOURCE = 'NODE_SEA_BLOB';
const SENTINEL = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2';

/** Programs that strip an executable, by architecture. The first installed one is used. */
const STRIPPERS = {
  x64: ['strip', 'llvm-strip', 'x86_64-linux-gnu-strip'],
  arm64: ['aarch64-linux-gnu-strip', 'llvm-strip', 'strip'],
};

const { arch } = parseArgs({ options: { arch: { type: 'string', default: 'x64' } } }).values;
if (!Object.hasOwn(STRIPPERS, arch))
  throw new Error(`--arch ${arch}: unknown architecture; available: ${Object.keys(STRIPPERS).join(', ')}`);
const isForeign = arch !== process.arch;
process.chdir(join(import.meta.dirname, '..'));
const output = join('dist', `vproxy-linux-${arch}`);

/** Without any of the programs, the executable keeps its symbols, and works. */
function strip(source, target) {
  for (const program of STRIPPERS[arch]) {
    try {
      execFileSync(program, ['-o', target, source], { stdio: 'ignore' });
      return;
    } catch {
      // Not installed, or not made for this architecture.
    }
  }
  console.error(`${output} keeps its symbols (18 MB): none of ${STRIPPERS[arch].join(', ')} works`);
  copyFileSync(source, target);
}

const runtime = fetchRuntime(EMBEDDED, arch);
const koffi = fetchKoffi(arch);
console.error('bundling vproxy');
execFileSync(process.execPath, ['packaging/bundle.mjs'], { stdio: 'inherit' });
const work = mkdtempSync(join(tmpdir(), 'vproxy-sea-'));
try {
  const [config, blob, executable] = ['sea.json', 'sea.blob', 'vproxy'].map((name) => join(work, name));
  const settings = {
    main: join('dist', 'vproxy.cjs'),
    output: blob,
    disableExperimentalSEAWarning: true,
    assets: { 'koffi.node': koffi },
    // Until vproxy handles the signal, Node would open a debugger.
    execArgv: ['--disable-sigusr1'],
    // The code cache is specific to the machine that compiles it.
    useCodeCache: !isForeign,
  };
  writeFileSync(config, JSON.stringify(settings));
  console.error('compiling it, and putting it into the executable');
  const own = join(fetchRuntime(EMBEDDED, process.arch), 'bin', 'node');
  // The fixed seed makes the code cache reproducible; V8 accepts it with any other.
  execFileSync(own, ['--random-seed=1', '--experimental-sea-config', config], { stdio: 'pipe' });
  // In this order: an executable that is stripped afterwards does not start.
  strip(join(runtime, 'bin', 'node'), executable);
  chmodSync(executable, 0o755);
  // It prints harmless warnings about string offsets; on failure, its output is in the error.
  const postject = join('node_modules', 'postject', 'dist', 'cli.js');
  execFileSync(process.execPath, [postject, executable, RESOURCE, blob, '--sentinel-fuse', SENTINEL], {
    stdio: 'pipe',
  });
  // Replaces the executable atomically: it may be in use.
  const temporary = `${output}.${process.pid}`;
  copyFileSync(executable, temporary);
  renameSync(temporary, output);
  copyFileSync(join(runtime, 'LICENSE'), `${output}.node-licence`);
  // For packages, which install it: not every program may execute files that it has written.
  copyFileSync(koffi, `${output}.koffi.node`);
  console.error(`made ${output}, ${Math.round(statSync(output).size / 1e6)} MB`);
} finally {
  rmSync(work, { recursive: true, force: true });
}
