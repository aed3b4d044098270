/** `npm run conformance`: see `--help`. */
import { writeFileSync } from 'node:fs';
import { EXEC } from './cases/exec.js';
import { IN_PIECES, WHOLE } from './cases/index.js';
import { MACHINE } from './cases/machine.js';
import { Judge } from './judge.js';
import { HELP, parseSuiteArguments, type SuiteOptions } from './options.js';
import { NoHello } from './play.js';
import { formatJunit, formatLine, formatSummary, formatTap, hasFailed, type Result } from './report.js';

const EXIT_FAILED = 1;
const EXIT_USAGE = 64;

/** After as many cases without a HELLO, and none with one, the others are not run. */
const MAX_WITHOUT_HELLO = 3;

process.exitCode = await main();

async function main(): Promise<number> {
  let options: SuiteOptions;
  try {
    options = parseSuiteArguments(process.argv.slice(2));
  } catch (error) {
    console.error(`conformance: ${error instanceof Error ? error.message : String(error)}`);
    return EXIT_USAGE;
  }
  if (options.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const cases = Object.entries({ ...IN_PIECES, ...WHOLE, ...EXEC, ...MACHINE }).filter(([title]) =>
    options.filter.test(title),
  );
  if (cases.length === 0) {
    console.error(`conformance: --filter ${options.filter.source}: no case has such a title`);
    return EXIT_USAGE;
  }
  if (options.tap) console.log(`TAP version 13\n1..${cases.length}`);
  const results: Result[] = [];
  const left = [...cases];
  const judges = Array.from({ length: options.jobs }, () => new Judge(options));
  const stop = () => Promise.all(judges.map((judge) => judge.stop()));
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => void stop().then(() => process.exit(EXIT_FAILED)));
  const work = async (judge: Judge): Promise<void> => {
    for (let next = left.shift(); next !== undefined; next = left.shift()) {
      const [title, scripts] = next;
      const result = await judge.run(title, [scripts].flat());
      results.push(result);
      console.log(options.tap ? formatTap(result, results.length) : formatLine(result));
      const asked = results.filter(({ outcome }) => typeof outcome !== 'string');
      if (asked.length >= MAX_WITHOUT_HELLO && asked.every(({ outcome }) => outcome instanceof NoHello)) left.splice(0);
    }
  };
  await Promise.all(judges.map(work));
  await stop();
  if (results.length < cases.length) {
    const reason =
      'stopped, because the program sent no HELLO: it does not speak the protocol, or its command is wrong';
    console.log(options.tap ? `Bail out! ${reason}` : `\nconformance: ${reason}`);
  }
  const summary = formatSummary(results);
  console.log(options.tap ? summary.replace(/^/gm, '# ') : `\n${summary}`);
  try {
    if (options.junit !== undefined) writeFileSync(options.junit, formatJunit(results));
  } catch (error) {
    console.error(`conformance: ${options.junit}: cannot write the report: ${(error as Error).message}`);
    return EXIT_FAILED;
  }
  return results.some(hasFailed) ? EXIT_FAILED : 0;
}
