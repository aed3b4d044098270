/** The completion for bash, 4.3 or newer; it needs nothing of the package bash-completion. */

import { quoteWord } from '../../lib/util/escape.js';
import { type CompletedCommand, type CompletedOption, commandGroups, firstWords } from './completed-command.js';
import type { ValueSort } from './value-sort.js';

/** The script. `kinds`: of channels. */
export function formatBash(commands: readonly CompletedCommand[], kinds: readonly string[]): string {
  const groups = [...commandGroups(commands)];
  const first = firstWords(commands).map(({ word }) => word);
  return `# Completion of vproxy for bash.

# What a word of a command is: the sort of its value in \`sort\`, empty for a flag. An operand is asked for by its number.
_vproxy_sort() {
  sort=
  case $command in
${commands.map(formatSorts).join('\n')}
  esac
}

# The options of a command, in \`options\`.
_vproxy_options() {
  case $command in
${commands.map(({ name, options }) => formatOptions(name, options)).join('\n')}
  esac
}

# What can be a value, in \`found\`: _vproxy_value VALUE SORT [WORD...]
_vproxy_value() {
  local value=$1 sort=$2 name rest
  shift 2
  found=()
  case $sort in
    file) mapfile -t found < <(compgen -f -- "$value") ;;
    folder) mapfile -t found < <(compgen -d -- "$value") ;;
    user) mapfile -t found < <(compgen -u -- "$value") ;;
    words) found=("$@") ;;
    names)
      while IFS=$'\\t' read -r name rest; do found+=("$name"); done < <(vproxy completion --names "$1" "\${process[@]}" 2> /dev/null)
      ;;
    remote | copy)
      if [[ $value != [./]* ]]; then
        while IFS=$'\\t' read -r name rest; do found+=("$name:"); done < <(vproxy completion --names channels "\${process[@]}" 2> /dev/null)
      fi
      if [[ $sort == copy ]]; then
        while IFS= read -r name; do found+=("$name"); done < <(compgen -f -- "$value")
      fi
      ;;
    channel)
      name=
      if [[ $value == *=* && \${value%%=*} != *:* ]]; then name=\${value%%=*}=; fi
      if [[ \${value#"$name"} == *:* ]]; then
        _vproxy_path
      else
        found=(${kinds.map((kind) => `"\${name}${kind}:"`).join(' ')})
      fi
      ;;
    path) _vproxy_path ;;
  esac
  # Where names of files are said to be, readline quotes colons, too.
  case $sort in
    file | folder | copy | channel | path)
      for name in "\${found[@]}"; do
        if [[ $name == "$value"* && $name == *: ]]; then return; fi
      done
      compopt -o filenames 2> /dev/null
      ;;
  esac
}

# A path behind the colon before it: SERVICE:/run/s, unix-connect:/run/s.
_vproxy_path() {
  local path=/\${value#*:/}
  if [[ $value == */* ]]; then
    mapfile -t found < <(compgen -f -- "$path")
    found=("\${found[@]/#/\${value%"$path"}}")
  fi
}

# The words before the cursor, in \`words\`: bash has cut them at colons and equals signs, too.
_vproxy_words() {
  local line=\${COMP_LINE:0:COMP_POINT} blank word before='' index
  words=()
  for ((index = 0; index <= COMP_CWORD; index++)); do
    word=\${COMP_WORDS[index]}
    blank=\${line%%[![:blank:]]*}
    line=\${line#"$blank"}
    if ((index == COMP_CWORD)); then word=$line; fi
    line=\${line#"$word"}
    if [[ -z $blank && \${#words[@]} -gt 0 && ($word == [:=]* || $before == *[:=]) ]]; then
      words[-1]+=$word
    else
      words+=("$word")
    fi
    before=$word
  done
}

_vproxy() {
  local command='' sort='' value index=1 count=0 word cut
  local -a words options=() found=() process=()
  COMPREPLY=()
  _vproxy_words
  local last=$((\${#words[@]} - 1))
  value=\${words[last]}
  case \${words[1]-} in
${groups
  .map(
    ([name, seconds]) => `    ${name})
      command="${name} \${words[2]-}"
      index=3
      if ((last == 2)); then found=(${seconds.map((one) => one.name.slice(name.length + 1)).join(' ')}); fi
      ;;`,
  )
  .join('\n')}
    ${first.filter((word) => !groups.some(([name]) => name === word)).join(' | ')})
      command=\${words[1]}
      index=2
      ;;
  esac
  if ((last == 1)); then
    command=
    index=1
    if [[ $value != -* ]]; then found=(${first.join(' ')}); fi
  fi

  if ((\${#found[@]} == 0)); then
    # Which word is an operand, and whether the last one is the value of an option.
    local of=
    while ((index < last)); do
      word=\${words[index]}
      index=$((index + 1))
      if [[ $word == -?* && $word != -- ]]; then
        _vproxy_sort "\${word%%=*}"
        if [[ $word == --socket=* || $word == --name=* ]]; then process=("$word"); fi
        if [[ -z $sort || $word == *=* || $sort == '='* ]]; then continue; fi
        if ((index == last)); then
          of=$word
        elif [[ $word == --socket || $word == --name ]]; then
          process=("$word" "\${words[index]}")
        fi
        index=$((index + 1))
      else
        count=$((count + 1))
        if [[ $word != *: ]]; then
          _vproxy_sort ends
          if [[ -n $sort ]]; then count=9; fi
        fi
      fi
    done
    if [[ -z $of && $value == --*=* && $count -lt 9 ]]; then
      of=\${value%%=*}
      value=\${value#*=}
    fi
    if [[ -n $of ]]; then
      _vproxy_sort "$of"
      sort=\${sort#=}
    elif [[ $value == -* && $count -lt 9 ]]; then
      _vproxy_options
      found=("\${options[@]}")
    else
      _vproxy_sort $((count + 1))
    fi
    # shellcheck disable=SC2086
    if ((\${#found[@]} == 0)) && [[ -n $sort ]]; then _vproxy_value "$value" $sort; fi
  fi

  for word in "\${found[@]}"; do
    if [[ $word == "$value"* ]]; then COMPREPLY+=("$word"); fi
  done
  if [[ \${#COMPREPLY[@]} == 1 && \${COMPREPLY[0]} == *[:=/] ]]; then compopt -o nospace 2> /dev/null; fi
  # readline replaces what is behind the last of the characters at which it cuts.
  cut=$value
  if [[ $COMP_WORDBREAKS == *:* ]]; then cut=\${cut##*:}; fi
  if [[ $COMP_WORDBREAKS == *=* ]]; then cut=\${cut##*=}; fi
  cut=\${value%"$cut"}
  COMPREPLY=("\${COMPREPLY[@]#"$cut"}")
}

complete -F _vproxy vproxy
`;
}

/** The branch of a command in \`_vproxy_sort\`. */
function formatSorts({ name, options, operands, hasMany, endsAtOperand }: CompletedCommand): string {
  const branches = options.flatMap(({ spellings, value }) =>
    value === null ? [] : [`${spellings.join(' | ')}) sort='${value.isOptional ? '=' : ''}${formatSort(value)}' ;;`],
  );
  const numbered = operands.map((operand, index) => {
    const pattern = hasMany && index === operands.length - 1 ? '[0-9]*' : String(index + 1);
    return `${pattern}) sort='${formatSort(operand)}' ;;`;
  });
  const lines = [...branches, ...numbered, ...(endsAtOperand ? ["ends) sort='file' ;;"] : [])];
  if (lines.length === 0) return `    ${quoteWord(name)}) ;;`;
  return `    ${quoteWord(name)})
      case $1 in
${lines.map((line) => `        ${line}`).join('\n')}
      esac
      ;;`;
}

const formatSort = ({ sort, words }: ValueSort): string => [sort, ...words].join(' ');

function formatOptions(name: string, options: readonly CompletedOption[]): string {
  return `    ${quoteWord(name)}) options=(${options.flatMap(({ spellings }) => spellings).join(' ')}) ;;`;
}
