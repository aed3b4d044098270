/** `npm run soak`: see `--help`. */
import { writeFileSync } from 'node:fs';
import { parseSoakArguments, SOAK_HELP, type SoakArguments } from './options.js';
import { runSoak } from './soak.js';

const EXIT_PROBLEMS = 1;
const EXIT_USAGE = 64;

process.exitCode = await main();

/** Resolves with the exit status. */
async function main(): Promise<number> {
  let options: SoakArguments;
  try {
    options = parseSoakArguments(process.argv.slice(2));
  } catch (error) {
    console.error(`soak: ${error instanceof Error ? error.message : String(error)}`);
    return EXIT_USAGE;
  }
  if (options.help) {
    process.stdout.write(SOAK_HELP);
    return 0;
  }
  const { minutes, seed, out } = options;
  const interrupted = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupted.abort());
  console.error(`soak of ${minutes} minutes with --seed ${seed}`);
  try {
    const { svg, ...summary } = await runSoak({
      ...{ durationMs: minutes * 60_000, seed, signal: interrupted.signal },
      onProgress: (line) => console.error(line),
      onProblem: (problem) => console.error(`wrong: ${problem}`),
    });
    writeFileSync(out, svg);
    console.log(JSON.stringify(summary, null, 2));
    console.error(summary.problemCount === 0 ? 'nothing wrong was seen' : `${summary.problemCount} problems`);
    return summary.problemCount === 0 ? 0 : EXIT_PROBLEMS;
  } catch (error) {
    console.error(`soak: ${error instanceof Error ? error.message : String(error)}`);
    return EXIT_PROBLEMS;
  }
}
