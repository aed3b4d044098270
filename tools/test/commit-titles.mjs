// Checks the titles of the commits since this rule began: `type(scope): what the commit does`, in the imperative, within 72
// characters. `npm run lint` runs it.
import { execFileSync } from 'node:child_process';
import { pathToFileURL } from 'node:url';

/** The last commit without the rule. */
const BASE = '11cd9e1f';

const MAX_LENGTH = 72;

const FORM = /^(?:build|chore|ci|docs|feat|fix|perf|refactor|revert|style|test)(?:\([a-z0-9-]+\))?: (?<does>\S.*)$/;

/** Begins a title that states a fact: an article, a pronoun, or a verb in the third person (`sends`, not `pass`). */
const FACT = /^(?:an?|the|this|that|these|those|what|who|no|one|its?|(?!alias|focus)\w+[^s\W]s) /i;

/** Returns what is wrong with a title, or null. */
export function judgeTitle(title) {
  if (title.length > MAX_LENGTH) return `too long: ${title.length} characters (max ${MAX_LENGTH})`;
  const does = FORM.exec(title)?.groups?.does;
  if (does === undefined) return 'not in the form "type(scope): what the commit does"';
  return FACT.test(does) ? 'states a fact; say what the commit does, in the imperative' : null;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const git = (...args) => execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  let titles = [];
  try {
    titles = git('log', '--no-merges', '--format=%h %s', `${BASE}..HEAD`).split('\n').filter(Boolean);
  } catch {
    console.log(`commit titles: not checked, since this is not a clone with the commit ${BASE}`);
  }
  for (const line of titles) {
    const at = line.indexOf(' ');
    const problem = judgeTitle(line.slice(at + 1));
    if (problem === null) continue;
    console.error(`commit ${line.slice(0, at)}: "${line.slice(at + 1)}": ${problem}`);
    process.exitCode = 1;
  }
}
