/** What the shells themselves offer for a command line, with the scripts of `vproxy completion`. */
import { execFile } from 'node:child_process';
import { symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { ExecutionContext } from 'ava';
import { SCRIPTS } from '../../cli/completion/scripts.js';
import { PROJECT_ROOT, temporaryFolder } from './files.js';

export type Shell = 'bash' | 'zsh' | 'fish';

/** What is offered for each line, as the words that would be inserted. */
export type Offers = Readonly<Record<string, readonly string[]>>;

const run = promisify(execFile);
/** For every line the script starts the program. */
const TIMEOUT_MS = 230_000;

// As readline does: colons and equals signs are words of their own.
const BASH_DRIVER = `
for line in "$@"; do
  COMP_LINE=$line
  COMP_POINT=\${#line}
  mapfile -t COMP_WORDS < <(grep -oE '[:=]+|[^:= ]+' <<< "$line")
  if [[ $line == *' ' ]]; then COMP_WORDS+=(''); fi
  COMP_CWORD=$((\${#COMP_WORDS[@]} - 1))
  COMPREPLY=()
  _vproxy
  printf '== %s\\n' "$line"
  if ((\${#COMPREPLY[@]} > 0)); then printf '%s\\n' "\${COMPREPLY[@]}"; fi
done`;

const FISH_DRIVER = `
for line in $argv
    printf '== %s\\n' $line
    complete -C $line
end`;

/** Has a shell complete each of the lines. `env` is set on top of an environment in which \`vproxy\` can be found. */
export async function completeInShell(
  t: ExecutionContext,
  shell: Shell,
  lines: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Offers> {
  const folder = temporaryFolder(t);
  const script = join(folder, '_vproxy');
  writeFileSync(script, SCRIPTS[shell]);
  symlinkSync(join(PROJECT_ROOT, 'dist/program/vproxy.cjs'), join(folder, 'vproxy'));
  const environment = {
    ...process.env,
    ...{ HOME: folder, XDG_CONFIG_HOME: folder, XDG_DATA_HOME: folder, XDG_RUNTIME_DIR: folder },
    ...{ PATH: `${folder}:${process.env['PATH'] ?? ''}`, LC_ALL: 'C.UTF-8', TERM: 'xterm' },
    ...env,
  };
  const commands = {
    bash: ['bash', '--norc', '-c', `source ${script}${BASH_DRIVER}`, 'bash', ...lines],
    zsh: ['zsh', '-f', join(PROJECT_ROOT, 'spec/fixtures/complete-in-zsh.zsh'), folder, ...lines],
    fish: ['fish', '--no-config', '-c', `source ${script}${FISH_DRIVER}`, ...lines],
  };
  const [file = '', ...words] = commands[shell];
  const { stdout } = await run(file, words, {
    env: environment,
    cwd: folder,
    timeout: TIMEOUT_MS,
    killSignal: 'SIGKILL',
  });
  return Object.fromEntries(
    stdout
      .split(/^== /m)
      .slice(1)
      .map((block) => {
        const [line = '', ...offers] = block.trimEnd().split('\n');
        return [
          lines.find((one) => one.trimEnd() === line.trimEnd()) ?? line,
          offers.map((one) => one.split('\t')[0] ?? ''),
        ];
      }),
  );
}
