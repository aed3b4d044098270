/** The completion for fish, 3.0 or newer. */

import { quoteFishWord } from '../../lib/util/escape.js';
import { type CompletedCommand, type CompletedOption, commandGroups, firstWords } from './completed-command.js';
import type { ValueSort } from './value-sort.js';

/** The script. `kinds`: of channels. */
export function formatFish(commands: readonly CompletedCommand[], kinds: readonly string[]): string {
  const groups = commandGroups(commands);
  const lines = [
    ...firstWords(commands).map(({ word, summary }) => offer('__vproxy_is_word 2', word, summary)),
    ...[...groups].flatMap(([group, seconds]) =>
      seconds.map(({ name, summary }) => offer(`__vproxy_is_word 3 ${group}`, name.slice(group.length + 1), summary)),
    ),
    ...commands.flatMap(formatCommand),
  ];
  return `# Completion of vproxy for fish.

# Whether the cursor is in the word of a number, behind the words that are given.
function __vproxy_is_word
    set -l words (commandline -opc)
    test (math (count $words) + 1) -eq $argv[1]; or return 1
    test (count $argv) -eq 1; or test "$words[2]" = "$argv[2]"
end

# Whether the line is one of a command of one word or two, or of none.
function __vproxy_is
    set -l words (commandline -opc)
    switch "$words[2]"
        case ${[...groups.keys()].join(' ')}
            test "$words[2] $words[3]" = "$argv[1]"
        case ${firstWords(commands)
          .map(({ word }) => word)
          .filter((word) => !groups.has(word))
          .join(' ')}
            test "$words[2]" = "$argv[1]"
        case '*'
            test -z "$argv[1]"
    end
end

# What was typed of a value: behind --option=, too.
function __vproxy_value
    commandline -ct | string replace -r -- '^--[a-z-]+=' ''
end

function __vproxy_names
    set -l words (commandline -opc)
    set -l process
    for index in (seq (count $words))
        switch $words[$index]
            case --socket --name
                set -l next (math $index + 1)
                set process $words[$index] $words[$next]
            case '--socket=*' '--name=*'
                set process $words[$index]
        end
    end
    command vproxy completion --names $argv[1] $process 2>/dev/null
end

function __vproxy_remote
    __vproxy_names channels | string replace -r -- '\\t' ':\\t'
end

function __vproxy_copy
    __vproxy_remote
    __fish_complete_path (__vproxy_value)
end

function __vproxy_file
    __fish_complete_path (__vproxy_value)
end

function __vproxy_folder
    __fish_complete_directories (__vproxy_value) ''
end

function __vproxy_user
    __fish_complete_users
end

function __vproxy_words
    printf '%s\\n' $argv
end

# A path behind the colon before it: SERVICE:/run/s, unix-connect:/run/s.
function __vproxy_path
    set -l value (__vproxy_value)
    set -l before (string match -r -- '^[^/]*:' $value)
    if test -n "$before"
        set -l path (string sub -s (math (string length -- $before) + 1) -- $value)
        __fish_complete_path $path | string replace -r -- '^' $before
    end
end

function __vproxy_channel
    set -l value (__vproxy_value)
    set -l label (string match -r -- '^[a-z0-9._-]+=' $value)
    if string match -q -- '*:*' $value
        __vproxy_path
    else
        printf "$label%s:\\n" ${kinds.join(' ')}
    end
end

complete -c vproxy -f
${lines.join('\n')}
`;
}

const offer = (condition: string, words: string, summary: string): string =>
  `complete -c vproxy -n ${quoteFishWord(condition)} -a ${quoteFishWord(words)} -d ${quoteFishWord(summary)}`;

function formatCommand({ name, options, operands }: CompletedCommand): string[] {
  const condition = quoteFishWord(`__vproxy_is ${name === '' ? "''" : `"${name}"`}`);
  const sorts = [...new Set(operands.map(formatArguments))].filter((one) => one !== '');
  return [
    ...options.map((option) => `complete -c vproxy -n ${condition} ${formatOption(option)}`),
    ...sorts.map((one) => `complete -c vproxy -n ${condition} -a ${quoteFishWord(one)}`),
  ];
}

function formatOption({ spellings, describe, value }: CompletedOption): string {
  const names = spellings.map((one) => (one.startsWith('--') ? `-l ${one.slice(2)}` : `-s ${one.slice(1)}`));
  const takes = value === null ? [] : [...(value.isOptional ? [] : ['-x']), ...argumentsOf(value)];
  return [...names, ...takes, `-d ${quoteFishWord(describe)}`].join(' ');
}

function argumentsOf(value: ValueSort): string[] {
  const text = formatArguments(value);
  return text === '' ? [] : [`-a ${quoteFishWord(text)}`];
}

function formatArguments({ sort, words }: ValueSort): string {
  return sort === 'none' ? '' : `(${[`__vproxy_${sort}`, ...words].join(' ')})`;
}
