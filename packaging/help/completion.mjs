// The completion for bash, made of the help texts. Run by itself it prints it.
import { collectHelp } from './collect-help.mjs';

const optionsOf = (sections) => sections.flatMap(({ options = [] }) => options);
const words = (options) => options.flatMap(({ short, long }) => (short === null ? [long] : [short, long])).join(' ');

/** Patterns of options, for a `case`. */
const valued = (options) =>
  options
    .filter(({ takesValue }) => takesValue)
    .flatMap(({ short, long }) => (short === null ? [long] : [short, long]));

/** The script, for /usr/share/bash-completion/completions/vproxy. */
export async function formatCompletion() {
  const { sections, commands } = await collectHelp();
  const run = optionsOf(sections);
  const names = commands.map(({ name }) => name);
  const firsts = [...new Set(names.map((name) => name.split(' ')[0]))];
  const groups = firsts.filter((first) => names.some((name) => name.startsWith(`${first} `)));
  const valuedAnywhere = [
    ...new Set([run, ...commands.map(({ sections: own }) => optionsOf(own))].flatMap(valued)),
  ].sort();
  return `# Completion of vproxy for bash.
_vproxy() {
  local word=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD - 1]} command=\${COMP_WORDS[1]} options
  COMPREPLY=()
  case $command in
${groups
  .map((first) => {
    const seconds = names.filter((name) => name.startsWith(`${first} `)).map((name) => name.slice(first.length + 1));
    return `    ${first})
      if ((COMP_CWORD == 2)); then
        mapfile -t COMPREPLY < <(compgen -W '${seconds.join(' ')}' -- "$word")
        return
      fi
      command="$command \${COMP_WORDS[2]}"
      ;;`;
  })
  .join('\n')}
  esac
  # What stands behind an option that takes a value, or is no option, is a path if anything known.
  case $before in
    ${valuedAnywhere.join(' | ')})
      mapfile -t COMPREPLY < <(compgen -f -- "$word")
      return
      ;;
  esac
  case $command in
${commands.map(({ name, sections: own }) => `    '${name}') options='${words(optionsOf(own))}' ;;`).join('\n')}
    *) options='${words(run)}' ;;
  esac
  if ((COMP_CWORD == 1)) && [[ $word != -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W '${firsts.join(' ')}' -- "$word")
  elif [[ $word == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
  else
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
  fi
}
complete -o filenames -F _vproxy vproxy
`;
}

if (process.argv[1] === import.meta.filename) process.stdout.write(await formatCompletion());
