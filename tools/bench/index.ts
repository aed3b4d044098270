/** `npm run bench`: compares vproxy with its peers, on the same work in the same run (`--help`). */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PROJECT_ROOT } from '../../spec/helpers/files.js';
import { runAxes } from './axes/run-axes.js';
import { writeDocuments } from './documents/parts.js';
import { startTarget } from './load/start-target.js';
import { type BenchOptions, HELP, parseBenchOptions, UsageError } from './options.js';
import { Programs } from './process/programs.js';
import { runTable } from './run-table.js';

/** Exit status of a command line that is not valid, as of sysexits(3). */
const EX_USAGE = 64;
/** Exit status after SIGINT, as shells have it. */
const INTERRUPTED = 130;

async function run(options: BenchOptions): Promise<void> {
  // A process of Node would read these certificates first: up to 50 ms that are nobody's.
  delete process.env['NODE_EXTRA_CA_CERTS'];
  const folder = mkdtempSync(join(tmpdir(), 'vproxy-bench-'));
  const programs = new Programs(folder);
  const cleanUp = async (): Promise<void> => {
    await programs.stop();
    rmSync(folder, { recursive: true, force: true });
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    // The processes of the load exit by themselves with their parent.
    process.once(signal, () => void cleanUp().finally(() => process.exit(INTERRUPTED)));
  }
  const progress = (line: string): void => {
    process.stderr.write(`${Math.round(performance.now() / 1000)} s: ${line}\n`);
  };
  try {
    const target = await startTarget(programs);
    const setting = { programs, folder, target: target.port };
    const report = await (options.axis ? runAxes : runTable)(options, { setting, target: target.program, progress });
    console.log(report.text);
    writeFileSync(options.json, report.json);
    for (const [name, svg] of report.drawings ?? []) {
      mkdirSync(options.plots, { recursive: true });
      writeFileSync(join(options.plots, name), svg);
      progress(`drawn: ${join(options.plots, name)}`);
    }
    if (options.documents) {
      for (const { file, name } of writeDocuments(report.documents ?? [], PROJECT_ROOT))
        progress(`written: ${name} in ${file}`);
    }
    progress(`the figures of every round are in ${options.json}`);
  } finally {
    await cleanUp();
  }
}

try {
  const options = parseBenchOptions(process.argv.slice(2));
  if (options.help) process.stdout.write(HELP);
  else await run(options);
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  process.stderr.write(`bench: ${error.message}\n`);
  process.exitCode = EX_USAGE;
}
