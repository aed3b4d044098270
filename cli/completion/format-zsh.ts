/** The completion for zsh. */

import { quoteWord } from '../../lib/util/escape.js';
import { type CompletedCommand, type CompletedOption, commandGroups, firstWords } from './completed-command.js';
import type { ValueSort } from './value-sort.js';

/** The script, for a folder of \`fpath\`, or to be read as it is. `kinds`: of channels. */
export function formatZsh(commands: readonly CompletedCommand[], kinds: readonly string[]): string {
  const groups = [...commandGroups(commands)];
  return `#compdef vproxy
# Completion of vproxy for zsh.

_vproxy_none() { _message -e "\${1:-value}" }
_vproxy_file() { _files }
_vproxy_folder() { _files -/ }
_vproxy_user() { _users }
_vproxy_words() {
  local -a found=("$@")
  _describe -t values value found
}

# Live names: _vproxy_names SORT [WHAT IS BEHIND EACH]
_vproxy_names() {
  local line
  local -a found process
  if (( \${+opt_args[--socket]} )); then process=(--socket "\${(Q)opt_args[--socket]}"); fi
  if (( \${+opt_args[--name]} )); then process=(--name "\${(Q)opt_args[--name]}"); fi
  for line in "\${(@f)$(_call_program names vproxy completion --names $1 \${(q)process} 2> /dev/null)}"; do
    if [[ -n $line ]]; then found+=("\${\${line%%$'\\t'*}//:/\\\\:}\${2:+\\\\$2}:\${line#*$'\\t'}"); fi
  done
  if (( $#found )); then
    if [[ -n $2 ]]; then _describe -t names $1 found -S ''; else _describe -t names $1 found; fi
  fi
}

_vproxy_remote() { _vproxy_names channels : }

_vproxy_copy() {
  local result=1
  if [[ $PREFIX != [./]* ]]; then _vproxy_names channels : && result=0; fi
  _files && result=0
  return result
}

_vproxy_channel() {
  if compset -P '[a-z0-9._-]##='; then :; fi
  if compset -P '*:'; then
    _files
  else
    compadd -S : -- ${kinds.join(' ')}
  fi
}

_vproxy_path() {
  if compset -P '*:(#b)(/|)'; then
    if [[ -n $match[1] ]]; then IPREFIX=\${IPREFIX%/}; PREFIX=/$PREFIX; fi
  fi
  if [[ $PREFIX == */* ]]; then _files; fi
}

${commands.map(formatCommand).join('\n\n')}

_vproxy() {
  local curcontext=$curcontext name
  local -a found match mbegin mend
  local -A opt_args
  if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then
    found=(
${firstWords(commands)
  .map(({ word, summary }) => `      ${describe(word, summary)}`)
  .join('\n')}
    )
    _describe -t commands 'vproxy command' found
    return
  fi
  case $words[2] in
${groups.map(([name, seconds]) => formatGroup(name, seconds)).join('\n')}
    (${firstWords(commands)
      .map(({ word }) => word)
      .filter((word) => !groups.some(([name]) => name === word))
      .join('|')})
      name=\${words[2]//-/_}
      words=("vproxy $words[2]" "\${(@)words[3,-1]}")
      (( CURRENT -= 1 ))
      _vproxy_command_$name
      ;;
    (*) _vproxy_command_ ;;
  esac
}

if [[ $funcstack[1] == _vproxy ]]; then
  _vproxy "$@"
else
  compdef _vproxy vproxy
fi
`;
}

const identifier = (name: string): string => name.replace(/[ -]/g, '_');

const escapeColons = (text: string): string => text.replaceAll(':', '\\:');

const describe = (word: string, text: string): string => quoteWord(`${word}:${text.replaceAll('\\', '\\\\')}`);

function formatGroup(name: string, seconds: readonly CompletedCommand[]): string {
  const word = (command: CompletedCommand): string => command.name.slice(name.length + 1);
  return `    (${name})
      if (( CURRENT == 3 )); then
        found=(${seconds.map((one) => describe(word(one), one.summary)).join(' ')})
        _describe -t commands 'vproxy ${name} command' found
        return
      fi
      if [[ $words[3] == (${seconds.map(word).join('|')}) ]]; then
        name=$words[2]_$words[3]
        words=("vproxy $words[2] $words[3]" "\${(@)words[4,-1]}")
        (( CURRENT -= 2 ))
        _vproxy_command_$name
      fi
      ;;`;
}

function formatCommand({ name, options, operands, hasMany, endsAtOperand }: CompletedCommand): string {
  const specs = [
    ...options.flatMap(formatOption),
    ...operands.map((operand, index) => {
      const place = hasMany && index === operands.length - 1 ? '*' : String(index + 1);
      return quoteWord(`${place}:${escapeColons(operand.called)}:${formatAction(operand)}`);
    }),
  ];
  const ends = endsAtOperand
    ? `  # Options may stand behind LABEL:, too.
  if (( CURRENT > 2 )) && [[ $words[2] == *: ]]; then
    words[2]=()
    (( CURRENT -= 1 ))
  fi
`
    : '';
  return `_vproxy_command_${identifier(name)}() {
${ends}  _arguments -s -S${endsAtOperand ? " -A '-*'" : ''} : \\
${specs.map((spec) => `    ${spec}`).join(' \\\n')}
}`;
}

/** As _arguments wants it (zshcompsys(1)). A value that may be left out stands behind `=` only. */
function formatOption({ spellings, describe: text, isRepeatable, value }: CompletedOption): string[] {
  const explanation = `[${text.replace(/[\\\]]/g, '\\$&')}]`;
  const action =
    value === null ? '' : `${value.isOptional ? '::' : ':'}${escapeColons(value.called)}:${formatAction(value)}`;
  const exclusion = isRepeatable ? '*' : spellings.length > 1 ? `(${spellings.join(' ')})` : '';
  return spellings.map((spelling) => {
    const mark = value === null ? '' : value.isOptional ? '=-' : spelling.startsWith('--') ? '=' : '+';
    return quoteWord(`${exclusion}${spelling}${mark}${explanation}${action}`);
  });
}

/** A space in front keeps `_arguments` from adding words of its own. */
function formatAction({ sort, words }: ValueSort): string {
  return sort === 'none' ? ' ' : ` _vproxy_${sort}${words.map((word) => ` ${word}`).join('')}`;
}
